"""The download of an official archive, from a server of the test."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.errors import SourceError
from features.datasets import archive
from tests.support.movielens_archive import write

pytestmark = pytest.mark.integration


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder; cuts the body of each response where the folder holds a file `truncate`."""

    def copyfile(self, source, outputfile) -> None:
        """Send the body of a response."""
        content = source.read()
        outputfile.write(content[:50] if (Path(self.directory) / "truncate").exists() else content)

    def log_message(self, *values: object) -> None:
        """Write no log."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in `server` under the test's folder."""
    (tmp_path / "server").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "server"))) as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{opened.server_port}"
        opened.shutdown()
        thread.join()


@pytest.fixture
def official(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> archive.Archive:
    """An archive at the address of the server; downloads are kept under the test's folder."""
    made = write(tmp_path / "server")
    monkeypatch.setattr(archive, "ARCHIVES", tmp_path / "kept")
    md5 = archive.pooch.file_hash(str(made), alg="md5")
    return archive.Archive(name=made.name, url=f"{server}/{made.name}", md5=md5)


def test_download_once(official: archive.Archive, tmp_path: Path) -> None:
    """Without a path the archive is downloaded, checked and kept; the second time it is taken from there."""
    path = archive.find(official, str(archive.ARCHIVES))
    assert path == tmp_path / "kept" / "ml-1m.zip"
    assert path.read_bytes() == (tmp_path / "server" / "ml-1m.zip").read_bytes()
    (tmp_path / "server" / "ml-1m.zip").unlink()
    assert archive.find(official, str(archive.ARCHIVES)) == path
    assert [entry.name for entry in (tmp_path / "kept").iterdir()] == ["ml-1m.zip"]


def test_an_archive_that_is_there_is_read_as_it_is(official: archive.Archive, tmp_path: Path) -> None:
    """A file that was put into the project's folder is neither checked nor replaced."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "ml-1m.zip").write_bytes(b"mine")
    assert archive.find(official, str(archive.ARCHIVES)).read_bytes() == b"mine"


def test_download_of_something_else(official: archive.Archive, tmp_path: Path) -> None:
    """A download with another checksum is refused and leaves no file."""
    (tmp_path / "server" / "ml-1m.zip").write_bytes(b"<html>moved</html>")
    with pytest.raises(SourceError, match=r"MD5 .* expected, .* found"):
        archive.find(official, str(archive.ARCHIVES))
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_download_that_breaks_off(official: archive.Archive, tmp_path: Path) -> None:
    """A response that ends early is an error with what to do next, and leaves no file."""
    (tmp_path / "server" / "truncate").touch()
    with pytest.raises(SourceError, match=r"neither in .*kept nor could it be downloaded.*\n.*set dataset.path"):
        archive.find(official, str(archive.ARCHIVES))
    assert list((tmp_path / "kept").iterdir()) == []


def test_no_network(official: archive.Archive, tmp_path: Path) -> None:
    """Neither archive nor network: the message names the file and its folder, and how to set dataset.path."""
    (tmp_path / "server" / "ml-1m.zip").unlink()
    with pytest.raises(SourceError, match=r"put ml-1m.zip into a folder of yours and set dataset.path"):
        archive.find(official, str(archive.ARCHIVES))
    assert list((tmp_path / "kept").iterdir()) == []


def test_no_server(official: archive.Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a server is the same error."""
    closed = archive.Archive(name="ml-1m.zip", url="http://127.0.0.1:9/ml-1m.zip", md5=official.md5)
    with pytest.raises(SourceError, match=r"put ml-1m.zip into a folder of yours and set dataset.path"):
        archive.find(closed, str(archive.ARCHIVES))
