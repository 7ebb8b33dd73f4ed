"""The guard itself can refuse: here and in a child process."""

import socket
import subprocess
import sys

import pytest


def test_a_foreign_address_is_refused_and_written_down(monkeypatch, tmp_path):
    log = tmp_path / "refused.log"
    monkeypatch.setenv("VIGIL_GUARD_LOG", str(log))
    with pytest.raises(ConnectionRefusedError), socket.socket() as outside:
        outside.connect(("192.0.2.1", 80))
    assert "192.0.2.1" in log.read_text()


def test_a_child_process_is_guarded_too():
    child = "import sys; sys.argv[:] = ['guard-test']\nimport socket\nsocket.create_connection(('192.0.2.1', 80), 1)"
    done = subprocess.run([sys.executable, "-P", "-c", child], capture_output=True, text=True)
    assert done.returncode == 1 and "the test guard refuses" in done.stderr


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
