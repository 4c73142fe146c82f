import io

from rich.console import Console

from hsn_v1.progress import progress_bars, reporter


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def bars_of(clock):
    bars = progress_bars(quiet=False)
    bars.get_time = clock
    bars.live.console = bars.console
    return bars


def shown(bars):
    """Return what the bars show, without being alive."""
    console = Console(file=io.StringIO(), width=200)
    console.print(bars.get_renderable())
    return console.file.getvalue()


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_speed(capsys):
    clock = Clock()
    bars = bars_of(clock)
    report = reporter(bars, "a.svs")
    assert "0/?" not in shown(bars) and "/" not in shown(bars).replace("0:00:00", "")
    report("tiles", 900, 1000)
    assert "a.svs: resuming, 900 of 1000 tiles done" in capsys.readouterr().out
    for _ in range(10):
        clock.now += 1
        bars.get_time = clock
        report("tiles", 900 + round(2 * clock.now), 1000)
    text = shown(bars)
    assert "a.svs: tiles" in text and "920/1000" in text and "2.0 tiles/s" in text and "0:00:40 left" in text


def test_a_run_that_begins_says_nothing_of_resuming(capsys):
    bars = bars_of(Clock())
    report = reporter(bars, "a.svs")
    report("tiles", 0, 10)
    report("tiles", 10, 10)
    report("windows", 3, 10)
    assert "resuming" not in capsys.readouterr().out


def test_each_stage_has_a_bar_of_its_own_speed():
    clock = Clock()
    bars = bars_of(clock)
    report = reporter(bars, "a.svs")
    report("tiles", 0, 10)
    clock.now = 1
    report("tiles", 10, 10)
    report("morph, rows", 0, 400)
    for _ in range(4):
        clock.now += 10
        report("morph, rows", round(clock.now / 10), 400)
    text = shown(bars)
    assert "a.svs: morph, rows" in text and "4/400" in text and "s/row" in text


def test_quiet_bars_show_nothing(capsys):
    with progress_bars(quiet=True) as bars:
        reporter(bars, "a.svs")("tiles", 5, 10)
    assert capsys.readouterr().out == ""
