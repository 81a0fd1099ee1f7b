"""The benchmark of decoding: that it reads every file both ways. How fast anything is, no test says."""

from msd_sweeps.bench import images


def test_every_file_is_read_both_ways(capsys):
    images.main(["--images", "4", "--size", "64", "48", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["training", "evaluation"]
    assert all(int(line.split()[1]) > 0 for line in lines)
