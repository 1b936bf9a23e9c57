from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from ai.ml.core.errors import StorageFailed
from ai.ml.core.files.atomic import (
    dump_json,
    is_alive,
    make_dirs,
    open_plain,
    publish_dir,
    sha256_bytes,
    sha256_file,
    sweep_temps,
    temp_path,
    write_atomic,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_hashes(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "f").write_bytes(content)
    assert sha256_file(tmp_path / "f") == sha256_bytes(content) == hashlib.sha256(content).hexdigest()


def test_json_is_canonical() -> None:
    assert dump_json({"b": 1, "a": "Łódź"}) == '{\n  "a": "Łódź",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_json({"x": float("nan")})


@pytest.mark.parametrize("old", [None, b"old"])
def test_write_atomic_replaces_whole(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "f"
    if old is not None:
        path.write_bytes(old)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"

    def stream_it(stream: BinaryIO) -> None:
        stream.write(b"streamed")

    write_atomic(path, stream_it)
    assert path.read_bytes() == b"streamed"
    assert names(tmp_path) == ["f"]


def test_write_atomic_keeps_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "f", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_write_atomic_leaves_the_old_file_when_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def half(stream: BinaryIO) -> None:
        stream.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, half)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_write_atomic_says_why_the_disk_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"writing .*gone/f failed: No such file.*; the old file is as it was"):
        write_atomic(tmp_path / "gone" / "f", b"x")
    (tmp_path / "d").mkdir()
    with pytest.raises(StorageFailed, match="Is a directory"):
        write_atomic(tmp_path / "d", b"x")
    assert names(tmp_path) == ["d"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path; from ai.ml.core.files.atomic import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomic(Path(sys.argv[1]), b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert "StorageFailed: writing" in done.stderr
    assert "File too large; the old file is as it was" in done.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_make_dirs(tmp_path: Path) -> None:
    make_dirs(tmp_path / "a" / "b")
    make_dirs(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="making the directory"):
        make_dirs(tmp_path / "file" / "sub")


def test_open_plain_refuses_what_could_block_or_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    os.mkfifo(tmp_path / "pipe")
    with open_plain(tmp_path / "f") as stream:
        assert stream.read() == b"x"
    with pytest.raises(OSError, match="symbolic links"):
        open_plain(tmp_path / "link")
    for name in ("pipe", "."):
        with pytest.raises(ValueError, match="not a plain file"):
            open_plain(tmp_path / name)


def test_publish_dir(tmp_path: Path) -> None:
    staging, target = tmp_path / "staging", tmp_path / "target"
    (staging / "sub").mkdir(parents=True)
    (staging / "sub" / "f").write_bytes(b"x")
    publish_dir(staging, target)
    assert (target / "sub" / "f").read_bytes() == b"x"
    assert names(tmp_path) == ["target"]


def test_publish_dir_never_replaces(tmp_path: Path) -> None:
    staging, target = tmp_path / "staging", tmp_path / "target"
    staging.mkdir()
    target.mkdir()
    with pytest.raises(FileExistsError, match="is there already"):
        publish_dir(staging, target)
    target.rmdir()
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        publish_dir(staging, target)
    assert staging.is_dir()
    with pytest.raises(StorageFailed, match="nothing was published"):
        publish_dir(staging, tmp_path / "gone" / "target")


def test_sweep_takes_only_what_dead_writers_left(tmp_path: Path) -> None:
    dead = multiprocessing.get_context("spawn").Process(target=int)
    dead.start()
    dead.join()
    left = tmp_path / f".f.{dead.pid}.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    kept = [temp_path(tmp_path / "f"), tmp_path / ".f.tmp", tmp_path / f"f.{dead.pid}.0123456789abcdef.tmp"]
    for path in kept:
        path.write_bytes(b"")
    assert sweep_temps(tmp_path) == [left]
    assert names(tmp_path) == sorted(path.name for path in kept)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system tells a process's state elsewhere")
def test_a_killed_process_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_alive(process.pid)
        left = tmp_path / f".f.{process.pid}.0123456789abcdef.tmp"
        left.write_bytes(b"half")
        assert sweep_temps(tmp_path) == []
        process.kill()
        # Ended, and left for the parent to bury.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(process.pid)
        assert sweep_temps(tmp_path) == [left]


def test_core_files_imports_no_torch() -> None:
    script = (
        "import sys, ai.ml.core.files.atomic, ai.ml.core.bundle_dir\n"
        "print(json.dumps(sorted({'torch', 'sklearn', 'numpy', 'pyarrow'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", f"import json\n{script}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
