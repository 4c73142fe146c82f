"""From arrays to what people look at: figures, panels and HTML pages."""
