"""From files to arrays and back: images, masks, models; and files opened, locked and written with care."""
