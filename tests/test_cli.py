"""The commands, their options and their errors."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from znfs import config, tables
from znfs.cli import COMMANDS, main, mount_main
from znfs.commands import info
from znfs.daemon import lifecycle, logs, mounts
from znfs.errors import MountError, UsageError
from znfs.meta import Axis
from znfs.options import Options

ROOT = Path(__file__).parent.parent
VALUES = np.arange(20 * 30 * 10, dtype="uint16").reshape(20, 30, 10)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("ZNFS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    group = zarr.create_group(tmp_path / "v.zarr")
    array = group.create_array(
        "em", shape=VALUES.shape, chunks=(4, 5, 5), shards=(8, 10, 10), dtype=VALUES.dtype,
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    array[:] = VALUES
    group.create_array("count", shape=(), chunks=(), dtype="int8")
    return tmp_path / "v.zarr"


Capture = pytest.CaptureFixture[str]


def test_light_start() -> None:
    """Help, and `import znfs`, load neither stores nor numpy, and are quick."""
    code = (
        "import sys, znfs, znfs.cli\n"
        "try: znfs.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'znfs.stores', 'znfs.tree', 'fsspec', 'obstore', 'rich', 'mfusepy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


HUNG = """
import threading
from concurrent.futures import ThreadPoolExecutor
from znfs.__main__ import _exit

def hang():  # as asyncio does in fsspec's thread, which is a daemon
    ThreadPoolExecutor().submit(under_way.set)
    ThreadPoolExecutor().submit(threading.Event().wait)
    under_way.wait()

def command():
    loop = threading.Thread(target=hang, daemon=True)
    loop.start()
    loop.join()
    print("done")
    return 3

under_way = threading.Event()
_exit(command)
"""


def test_a_command_ends_though_a_thread_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNG], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert command in capsys.readouterr().out


def test_every_option_is_a_flag_of_mount(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["mount", "--help"])
    shown = capsys.readouterr().out
    for name in config.FIELDS:
        assert "--" + name.replace("_", "-") in shown
    for default in ("(1GiB)", "(20GiB)", "(256)", "(222)", "(30)", "(5)"):
        assert default in shown


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        ([], 2, "COMMAND"),
        (["fly"], 2, "fly"),
        (["mount"], 2, "SOURCE"),
        (["ls", "x.zarr", "--colour"], 2, "--colour"),
        (["ls", "x.zarr", "--ttl", "soon"], 2, "--ttl: 'soon' is not a number"),
        (["ls", "x.zarr", "--cache-size", "1 apple"], 2, "--cache-size: '1 apple' is not a size"),
        (["ls", "x.zarr", "--cache-size", "9" * 400], 2, "is not a size"),
        (["ls", "x.zarr", "--views", "jpeg"], 2, "--views: no view 'jpeg'"),
        *((["ls", "x.zarr", "--deadline", text], 2, f"--deadline: '{text}' is not from 0.001 to ")
          for text in ("inf", "nan", "-1", "0")),
        (["ls", "x.zarr", "--ttl", "nan"], 2, "--ttl: 'nan' is not from 0 to inf"),
        (["ls", "x.zarr", "--ttl", "-1"], 2, "--ttl: '-1' is not from"),
        (["ls", "x.zarr", "--hdf5-merge", "0"], 2, "--hdf5-merge: '0' is not from 1"),
        (["mount", "x.zarr", "/tmp", "--uid", "-5"], 2, "--uid: '-5' is not from 0"),
        (["mount", "x.zarr", "/tmp", "--gid", "4294967295"], 2, "--gid: '4294967295' is not from"),
        (["mount", "x.zarr", "/tmp", "--umask", "1777"], 2, "'1777' is not from 000 to 777"),
        (["mount", "x.zarr", "/tmp", "--metrics-port", "-3"], 2, "--metrics-port: '-3' is not"),
        (["mount", "x.zarr", "/tmp", "--metrics-port", "65536"], 2, "is not from 1 to 65535"),
        (["ls", "x.zarr", "--backend", "curl"], 2, "--backend: 'curl' is none of"),
        (["ls", "x.zarr", "--storage-option", "pw"], 2, "option: what is given is not KEY=VALUE"),
        (["mount", "x.zarr", "/tmp", "-o", "storage_option"], 2, "-o storage_option: takes"),
        (["mount", "x.zarr", "/tmp", "-o", "storage_option=token=pw"], 2, "--config"),
        (["ls", "x.zarr", "y", "https://me:pw@127.0.0.1/"], 2, "unrecognized"),
        (["ls", "x.zarr", "--cache-size", "8192P"], 2, "--cache-size: '8192P' is not a size below"),
        (["ls", "x.zarr", "--cache-size", str(1 << 63)], 2, "is not a size below"),
        (["ls", "x.zarr", "--hdf5-merge", str(1 << 63)], 2, "--hdf5-merge: '9223372036854775808'"),
        (["mount", "x.zarr", "--", "--allow-other"], 1, "--allow-other: no such directory"),
        (["ls", "--", "--anon", "-l"], 1, "--anon: no such file"),
        (["umount", "--", "--lazy"], 1, "--lazy: no znfs mount"),
        (["ls", "x.zarr", "--storage-option", "secret=x"], 2, "--config"),
        (["ls", "https://me:pw@127.0.0.1:9/x.zarr"], 2, "--config"),
        (["ls", "https://127.0.0.1:9/x.zarr?X-Amz-Signature=1"], 2, "--config"),
        (["ls", "x.zarr", "--config", "/nonexistent.toml"], 2, "/nonexistent.toml: no such file"),
        (["mount", "x.zarr", "/tmp", "-o", "colour=red"], 2, "colour"),
        (["mount", "x.zarr", "/tmp", "-o", "remount"], 2, "remount"),
        (["ls", "/nonexistent.zarr"], 1, "/nonexistent.zarr"),
        (["umount", "/"], 1, "/: no znfs mount"),
        (["status", "/"], 1, "/: no znfs mount"),
        (["refresh", "/"], 1, "/: no znfs mount"),
    ],
)
def test_errors_are_one_line(
    store: Path, words: list[str], status: int, why: str, capsys: Capture
) -> None:
    try:
        got = main(words)
    except SystemExit as exc:
        got = int(str(exc.code))
    said = capsys.readouterr()
    assert (got, said.out) == (status, "")
    assert why in said.err
    assert said.err.count("\n") == 1
    assert "pw" not in said.err.replace("pwd", "")


def test_helper_usage(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        mount_main([])
    assert caught.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_ls_and_cat(store: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    def out(*words: str) -> bytes:
        assert main([words[0], str(store), *words[1:]]) == 0
        return capsysbinary.readouterr().out

    assert out("ls").decode().split() == [".znfs", "count", "em", "v.h5", "v.nc", "zarr.json"]
    assert out("ls", "/em/chunks/c/0/").split() == [b"0", b"1", b"2", b"3", b"4", b"5"]
    long = out("ls", "em", "-l").decode().splitlines()
    assert any(line.endswith("  chunks/") for line in long)
    assert out("ls", "em/em.npy") == b"em/em.npy\n"
    header = (b"\x93NUMPY", VALUES.tobytes())
    npy = out("cat", "em/em.npy")
    assert npy.startswith(header[0])
    assert npy.endswith(header[1])
    assert out("cat", "zarr.json") == (store / "zarr.json").read_bytes()
    assert out("ls", "--views", "npy", "em") == b"em.npy\nzarr.json\n"


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("cat", "em"), 2, "is a directory"),
        (("cat", "em/none"), 1, "em/none: no such file"),
        (("ls", "none"), 1, "none: no such file"),
    ],
)
def test_what_is_not_there(
    store: Path, words: tuple[str, ...], status: int, why: str, capsys: Capture
) -> None:
    assert main([words[0], str(store), *words[1:]]) == status
    assert why in capsys.readouterr().err


def test_words_that_are_no_options(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    store.rename("-v.zarr")
    for words in (
        ["ls", "--", "-v.zarr"], ["ls", "-l", "--views", "npy", "--", "-v.zarr", "em"],
        ["ls", "./-v.zarr", "-l", "--", "em"], ["cat", "--", "-v.zarr", "em/zarr.json"],
    ):  # fmt: skip
        assert main(words) == 0


def closed(words: str, *more: object, stdout: Any = subprocess.PIPE) -> tuple[int, str, str]:
    """Status, output and errors of `znfs` with these words of a shell's, which may close things."""
    script = f'exec {sys.executable} -m znfs {words}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *map(str, more)], stdout=stdout, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout or "", done.stderr


def test_closed_streams(store: Path) -> None:
    names = closed('ls "$1"', store)
    assert names[0] == 0
    assert closed('ls "$1" <&-', store) == names
    assert closed('ls "$1" 2>&-', store) == names
    assert closed('ls "$1" 2>&- <&-', store) == names
    failed = (1, "", "znfs ls: cannot write: Bad file descriptor\n")
    assert closed('ls "$1" >&-', store) == failed
    assert closed('ls "$1" >&- <&-', store) == failed
    assert closed('ls "$1/none" 2>&-', store) == (1, "", "")  # no message in the output
    assert closed('ls "$1/none" >&- 2>&- <&-', store) == (1, "", "")
    cannot = closed('cat "$1" em/em.npy >&-', store)
    assert cannot == (1, "", "znfs cat: cannot write: Bad file descriptor\n")


def test_a_full_disk(store: Path) -> None:
    for words in ('ls "$1"', 'cat "$1" em/em.npy', 'info "$1"', "status --json"):
        with open("/dev/full", "w") as full:
            status, _, said = closed(words, store, stdout=full)
        assert (status, said.count("\n")) == (1, 1), said
        assert said.endswith(": cannot write: No space left on device\n")


def test_a_locale_without_the_characters(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, product in (("latin-1", "×"), ("ascii", r"\xd7")):
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
        words = [sys.executable, "-m", "znfs", "info", str(store)]
        done = subprocess.run(words, capture_output=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert product in done.stdout.decode(encoding)


def test_a_directory_that_is_gone(store: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    inside = f'-P -c "import os; os.chdir(\'{tmp_path}/gone\'); os.rmdir(\'{tmp_path}/gone\')'
    script = f'{inside}; from znfs.cli import main; import sys; sys.exit(main(sys.argv[1:]))"'
    for words, status, said in (
        (["ls", "x.zarr"], 1, "znfs ls: the current directory: No such file or directory\n"),
        (["umount", "x"], 1, "znfs umount: the current directory: No such file or directory\n"),
        (["ls", str(store)], 0, ""),
    ):
        (tmp_path / "gone").mkdir(exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", f'exec {sys.executable} {script} "$@"', "sh", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (status, said)


@pytest.mark.parametrize("words", [["ls", "em/chunks/c/0"], ["cat", "em/em.npy"]])
def test_closed_pipe(store: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "znfs", words[0], str(store), words[1]]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_info(store: Path, capsys: Capture) -> None:
    assert main(["info", str(store)]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("em"))
    for part in ("zarr3 array", "z y x", "20×30×10", "4×5×5 in 8×10×10", "uint16", "zstd",
                 "11.7 KiB", "npy"):  # fmt: skip
        assert part in line
    assert "count" in out
    assert main(["info", str(store), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "v"
    em = next(n for n in found["nodes"] if n["path"] == "em")
    assert em["shape"] == [20, 30, 10]
    assert em["shards"] == [[8, 10, 10]]
    assert [a["name"] for a in em["axes"]] == ["z", "y", "x"]
    assert "em.npy" in em["views"]


def test_info_is_json_whatever_codecs_are_told(tmp_path: Path, capsys: Capture) -> None:
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [2], "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": "NaN",
        "codecs": [
            {"name": "scale_offset", "configuration": {"scale": 2.5, "offset": "-Infinity"}},
            {"name": "bytes", "configuration": {"endian": "big", "odd": float("nan")}},
        ],
    }  # fmt: skip
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    assert main(["info", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["nodes"][0]["codecs"] == [
        {"name": "scale_offset", "configuration": {"scale": 2.5, "offset": "-Infinity"}},
        {"name": "bytes", "configuration": {"endian": "big", "odd": "NaN"}},
    ]


def test_axis_text() -> None:
    assert info.axis_text(Axis("z")) == "z"
    assert info.axis_text(Axis("z", "nanometer", 40.0)) == "z:40nm"
    assert info.axis_text(Axis("x", "kilometer", 2.0)) == "x:2km"
    assert info.axis_text(Axis("q", "parsec", 0.5)) == "q:0.5parsec"


def test_doctor(store: Path, capsys: Capture) -> None:
    status = main(["doctor", str(store)])
    out = capsys.readouterr().out
    assert f"{store}: answered in" in out
    assert status == (0 if os.access("/dev/fuse", os.W_OK) else 1)
    assert main(["doctor", "/nonexistent.zarr"]) == 1
    assert "/nonexistent.zarr" in capsys.readouterr().out


# Options


def load(source: str = "s3://b/x.zarr", given: object = None, **environ: str) -> Options:
    return config.load(source, given or {}, environ)  # type: ignore[arg-type]


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return str(path)


def test_defaults() -> None:
    assert load() == Options()


def test_precedence(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [defaults]
        cache_size = "1MiB"
        region = "defaults"
        anon = true
        [source."s3://b/"]
        region = "short"
        profile = "short"
        [source."s3://b/x"]
        region = "long"
        umask = 0o027
        string_bytes = 1000
        views = ["npy", "chunks"]
        """,
    )
    options = load(ZNFS_CONFIG=file)
    assert options.region == "long"
    assert options.profile is None  # of the section with the longest prefix alone
    assert (options.cache_size, options.anon, options.umask) == (1 << 20, True, 0o027)
    assert options.views == ("npy", "chunks")
    assert options.string_bytes == 1000
    assert load("s3://c/x.zarr", ZNFS_CONFIG=file).region == "defaults"
    assert load("zip://a::s3://b/x.zip", ZNFS_CONFIG=file).region == "long"
    assert load(ZNFS_CONFIG=file, ZNFS_REGION="environ").region == "environ"
    given = {"region": "flag", "config": file}
    assert load(given=given, ZNFS_REGION="environ").region == "flag"
    assert load(given={"anon": "false", "config": file}).anon is False


def test_sections_of_hosts_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told to one host is told to no other; a folder is the same, however it is spelt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    sections = (
        "https://data.example", "s3://bucket", str(tmp_path), "s3+https://minio.example/lab",
        "reference://::https://a.example",
    )  # fmt: skip
    file = write(tmp_path, "".join(f'[source."{p}"]\nprofile = "{p}"\n' for p in sections))
    for source, section in (
        ("https://data.example/x.zarr", sections[0]), ("https://data.example", sections[0]),
        ("zip::https://data.example/x.zip", sections[0]),
        ("https://data.example.net/x.zarr", None), ("https://data.example@evil.example/x", None),
        ("https://data.example:80@evil.example/x", None),
        ("s3://bucket/x", sections[1]), ("s3://bucket-of-others/x", None),
        ("s3+https://minio.example/lab/x", sections[3]),
        ("s3+https://minio.example/lab-private/x", None),
        ("reference://::https://a.example/r.json", sections[4]),
        ("reference://::https://a.example.net/r.json", None),
        ("http://elsewhere.example/x", None), ("s3://b/x", None),
        ("x.zarr", sections[2]), ("~/x.zarr", sections[2]), (f"file://{tmp_path}/x", sections[2]),
        (f"zip::{tmp_path}/x.zip", sections[2]), ("reference://?fo=refs.json", sections[2]),
    ):  # fmt: skip
        assert load(source, ZNFS_CONFIG=file).profile == section, source


def test_none_is_what_else_is_told() -> None:
    given = {"profile": None, "disk_cache": None, "views": None, "cache_size": None}
    assert load(given=given) == Options()
    assert load(given={"region": None}, ZNFS_REGION="variable").region == "variable"
    with pytest.raises(UsageError, match="no such option"):
        load(given={"colour": None})


def test_where_the_file_is(tmp_path: Path) -> None:
    for folder, region in (("etc", "shared"), ("home", "own")):
        (tmp_path / folder / "znfs").mkdir(parents=True)
        (tmp_path / folder / "znfs/config.toml").write_text(f"[defaults]\nregion = '{region}'")
        environ = {
            "XDG_CONFIG_HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path / "etc"),
        }  # fmt: skip
        assert config.load("x", {}, environ).region == region
    environ = {"HOME": "/dev/null", "XDG_CONFIG_DIRS": str(tmp_path / "etc")}  # of a service
    assert config.load("x", {}, environ).region == "shared"


def test_storage_options(tmp_path: Path) -> None:
    file = write(tmp_path, "[defaults.storage_option]\na = 'file'\nb = 'file'\nn = {deep = 1}\n")
    found = load(given={"config": file, "storage_option": ["a=flag=1", "c="]})
    assert found.storage_option == {"a": "flag=1", "b": "file", "n": '{"deep": 1}', "c": ""}
    assert load(ZNFS_STORAGE_OPTION='{"a": "1"}').storage_option == {"a": "1"}
    assert load(ZNFS_STORAGE_OPTION="a=1\nb=2").storage_option == {"a": "1", "b": "2"}
    file = write(tmp_path, "[defaults.storage_option]\nday = 2020-01-01\n")
    assert load(given={"config": file}).storage_option == {"day": '"2020-01-01"'}


def test_storage_options_add_up(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the file, the environment, each `-o` and each flag."""
    file = write(tmp_path, "[defaults.storage_option]\na = 'file'\nb = 'file'\n")
    monkeypatch.setenv("ZNFS_STORAGE_OPTION", "b=variable\nc=variable")
    requests = []
    monkeypatch.setattr(lifecycle, "mount", requests.append)
    words = ["-o", "storage_option=c=o,storage-option=d=o,ttl=3", "-o", r"storage_option=e=o\,o",
             "--storage-option", "e=flag", "--storage-option", "f=flag"]  # fmt: skip
    words += ["-o", "cache_size=1MiB,cache-size=2MiB", "--cache-size", "3MiB"]
    assert main(["mount", str(store), str(tmp_path), "--config", file, *words]) == 0
    assert requests[0].options.ttl == 3
    assert requests[0].options.cache_size == 3 << 20  # the flag, however `-o` spells it
    assert requests[0].options.storage_option == {
        "a": "file", "b": "variable", "c": "o", "d": "o", "e": "flag", "f": "flag",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[default]\nttl = 1", r"no section \[default\]"),
        ("[defaults]\nttll = 1", r"\[defaults\] ttll: no such option"),
        ("[defaults]\nttl = 'x'", r"\[defaults\] ttl: 'x' is not a number"),
        ("[defaults]\nanon = 'maybe'", "neither true nor false"),
        ("[source]\n's3://b/x' = 3", "is not a table"),
        ("[source]\nanon = true", r"\[source\] anon is not a table"),
        ("source = 3", "source is not a table"),
        ("source = 's3'", "source is not a table"),
        ("defaults = 3", r"\[defaults\] is not a table"),
        ("[defaults]\nregion = ['a']", r"\[defaults\] region: takes one value"),
        ("[defaults]\nregion = {a = 1}", r"\[defaults\] region: takes a value, not a table"),
        ("[defaults]\nregion = 2020-01-01", r"\[defaults\] region: 2020-01-01 is a date"),
        ("[defaults]\nregion = 10:00:00", r"\[defaults\] region: 10:00:00 is a date"),
        ("[defaults]\ndisk_cache = false", r"\[defaults\] disk_cache needs a value, not false"),
        ("[defaults]\nanon = ['true']", r"\[defaults\] anon: takes one value"),
        ("[defaults]\nttl = true", r"\[defaults\] ttl needs a value, not true"),
        ("[defaults]\nviews = [3]", r"\[defaults\] views: no view '3'"),
        ("[defaults]\nviews = {a = 1}", r"\[defaults\] views: takes a value"),
        ("[defaults]\ncache_size = 9223372036854775808", r"cache_size: '8192P.*' is not a size be"),
        ("[defaults]\nstorage_option = 3", r"\[defaults\] storage_option: takes a table"),
        ("[defaults]\nstorage_option = ['hunter2']", r"storage_option: what is given is not"),
        ("[defaults]\nconfig = 'x'", r"\[defaults\] config: no such option"),
        ("ttl = ", "c.toml"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        load(ZNFS_CONFIG=write(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_wrong_variables() -> None:
    with pytest.raises(UsageError, match="ZNFS_ANON: 'maybe' is neither"):
        load(ZNFS_ANON="maybe")


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    found = load(given={"disk_cache": "a/../b", "log_file": "~/log", "manifest": "/c"})
    assert (found.disk_cache, found.log_file, found.manifest) == (
        f"{tmp_path}/b", "/home/me/log", "/c",
    )  # fmt: skip
    with pytest.raises(UsageError, match="ZNFS_DISK_CACHE: '' is no path"):
        load(ZNFS_DISK_CACHE="")
    with pytest.raises(UsageError, match="'~no such user/x' is no path, for no such home is known"):
        load(ZNFS_DISK_CACHE="~no such user/x")


def test_options_as_text() -> None:
    """What Python gives becomes what the daemon reads in its environment."""
    given = {"umask": 0o27, "cache_size": 3 << 20, "string_bytes": 1000, "ttl": float("inf"),
             "views": ("npy", "tif"), "anon": True, "uid": 5,
             "storage_option": {"a": "1"}}  # fmt: skip
    environ = {config.variable(name): config.as_text(name, value) for name, value in given.items()}
    assert environ["ZNFS_UMASK"] == "027"
    assert environ["ZNFS_CACHE_SIZE"] == "3MiB"
    assert load(**environ) == load(given=given) == Options(**given)  # type: ignore[arg-type]


def test_items() -> None:
    split = config.split_items
    assert split(["allow_other,ttl=5", r"views=npy\,tif,,"]) == {
        "allow_other": True, "ttl": "5", "views": "npy,tif",
    }  # fmt: skip


# Texts


def test_sizes_and_durations() -> None:
    assert [tables.size_text(n) for n in (0, 1023, 1024, 1536, 5 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 TiB",
    ]  # fmt: skip
    assert [tables.duration_text(s) for s in (0, 61, 3600, 90000)] == [
        "0 s", "1 min 1 s", "1 h", "1 d 1 h",
    ]  # fmt: skip


def test_mount_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "42 27 0:39 / /mnt/a\\040b ro,nosuid - fuse.znfs s3://b/x,y\\134z ro,user_id=0\n"
        "43 27 0:40 / /mnt/c rw shared:3 master:1 - fuse.sshfs host: rw\n"
        "44 27 0:41 / /mnt/d ro shared:3 - fuse.znfs none ro\n"
        "45 27 0:42 / /mnt/\r\f\x85\u2028e rw - tmpfs none rw\n",
        newline="",
    )
    first, second = mounts.mounts(str(table))
    assert first == mounts.Mount("s3://b/x,y\\z", "/mnt/a b", "0:39", "ro,nosuid", user=0)
    assert second.mountpoint == "/mnt/d"


def test_no_control_character_reaches_a_terminal(tmp_path: Path, capsys: Capture) -> None:
    evil = "a\x1b]0;owned\x07\rb"
    zarr.create_group(tmp_path / "g.zarr").create_array(evil, shape=(2,), dtype="u1")
    assert main(["info", str(tmp_path / "g.zarr")]) == 0
    assert main(["cat", str(tmp_path / "g.zarr"), evil + "/none"]) == 1
    said = capsys.readouterr()
    for text in said:
        assert "\\x1b]0;owned\\x07" in text
        assert not {c for c in text if ord(c) < 32} - {"\n"}
    text = evil + "\nznfs: x"
    record = logging.LogRecord("znfs", logging.ERROR, "", 0, "read: %s", (text,), None)
    line = logs._OneLine("znfs: %(message)s").format(record)
    assert line == "znfs: read: a\\x1b]0;owned\\x07\\rb\\nznfs: x"


@pytest.mark.parametrize(
    ("items", "flags"),
    [
        ("user,exec", ()), ("users,noexec,exec,dev,suid,rw", ()),
        ("owner,exec,noexec", ("noexec",)), ("noexec,exec,noexec", ("noexec",)),
        ("group,user=me,sync,dirsync,silent,loud,mand", ()),
        ("noiversion,nolazytime,nogroup,noowner,X-mount.mkdir,x-gvfs-hide", ()),
    ],
)  # fmt: skip
def test_words_of_fstab(items: str, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    requests = []
    monkeypatch.setattr(lifecycle, "mount", requests.append)
    assert mount_main(["/s", "/m", "-o", f"{items},ttl=9"]) == 0
    (request,) = requests
    assert (request.flags, request.options.ttl) == (flags, 9.0)


@pytest.mark.parametrize(
    ("error", "status"),
    [(UsageError("u"), 1), (OSError(errno.ENOMEM, "no memory"), 2), (MountError("m"), 32)],
)
def test_statuses_of_mount(error: Exception, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: object) -> None:
        raise error

    monkeypatch.setattr(lifecycle, "mount", fail)
    assert mount_main(["/s", "/m"]) == status
