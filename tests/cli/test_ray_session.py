"""Ray that does not start, and clusters that are none: a sentence each."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from rllib_stpn.cli import ray_session
from rllib_stpn.cli.main import main


def error_of(capsys, *arguments) -> str:
    """The one line on stderr of a command line that must fail with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("rllib: error: ") and "Traceback" not in err, err
    return err


@pytest.fixture
def service():
    """Starts something that is no Ray: it reads a little, and answers this (nothing at all for None)."""
    listening = []

    def service(answer: bytes | None) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(24)
                if answer is None:
                    time.sleep(6)
                else:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield service
    for server in listening:
        server.close()


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH", b""], ids=["web", "short", "closes"])
def test_another_service_is_not_taken_for_ray(capsys, cartpole, tmp_path, service, answer, scheme):
    address = scheme + service(answer)
    error = error_of(capsys, "train", cartpole, "--ray-address", address, "--storage-path", tmp_path)
    assert f"what answers at '{address}' is not Ray" in error or "reset" in error


def test_a_service_that_keeps_silent(capsys, cartpole, tmp_path, service):
    address = service(None)
    error = error_of(capsys, "train", cartpole, "--ray-address", address, "--storage-path", tmp_path)
    assert f"nothing answers at '{address}' within 5 seconds" in error


def test_the_address_may_come_from_rays_variable(capsys, cartpole, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    arguments = ["train", cartpole, "--storage-path", tmp_path]
    assert "RAY_ADDRESS: nothing answers at '127.0.0.1:1'" in error_of(capsys, *arguments)
    error = error_of(capsys, *arguments, "--ray-num-cpus", 1)
    assert "RAY_ADDRESS" in error and "`--ray-address local`" in error


def test_ray_itself_is_taken_for_ray(ray_session):
    import ray

    from rllib_stpn.experiments.ray_start import _reach

    _reach(ray.get_runtime_context().gcs_address)


# Variables of the environment, and what the sentence has to say. HOME comes first, as Ray looks there only once.
FAULTS = {
    "HOME": ({"HOME": os.devnull}, [".ray", "set HOME"]),
    "too long": ({"TMPDIR": "{tmp}/" + "long" * 30}, ["too long", "longlong", "RAY_TMPDIR=/tmp"]),
    "not a directory": ({"TMPDIR": os.devnull}, [os.devnull, "set RAY_TMPDIR"]),
    "not ASCII": ({"TMPDIR": "{tmp}/größe"}, ["only ASCII", "gr\\xf6\\xdfe", "RAY_TMPDIR=/tmp"]),
}
PROGRAM = """
import contextlib, io, json, os, sys
from rllib_stpn.cli.main import main
faults, arguments = json.loads(sys.argv[1]), sys.argv[2:]
told = {}
for fault, environment in faults.items():
    before = dict(os.environ)
    os.environ.update(environment)
    error = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with contextlib.redirect_stderr(error):
        code = main(arguments)
    os.environ.clear()
    os.environ.update(before)
    told[fault] = [code, error.buffer.getvalue().decode()]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    """Exit code and words for each fault, from one process that is not this one, where Ray may run already."""
    # pytest's own folder may be too long for Ray.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        yield _told(Path(folder))


def _told(tmp):
    file = tmp / "cartpole.yaml"
    file.write_text("x: {run: PPO, env: CartPole-v1, stop: {training_iteration: 1}}", encoding="utf-8")
    faults = {
        fault: {name: value.replace("{tmp}", str(tmp)) for name, value in environment.items()}
        for fault, (environment, _) in FAULTS.items()
    }
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_TMPDIR")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(faults), "train", str(file), "--storage-path", str(tmp / "results")],
        env=environment,
        cwd=tmp,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Ray does not look at TMPDIR")
@pytest.mark.parametrize("fault", FAULTS)
def test_ray_that_cannot_start_says_why_and_what_helps(told, fault):
    code, error = told[fault]
    if fault == "HOME" and code == 0:
        pytest.skip("this version of Ray writes nothing there")
    assert code == 2 and error.count("\n") == 1 and error.startswith("rllib: error: Ray cannot start"), error
    for part in FAULTS[fault][1]:
        assert part in error


LISTENING = """
import json, os, pathlib, ray
from rllib_stpn.experiments.ray_start import start_ray

def below(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield child
            yield from below(child)

start_ray(None, num_cpus=1, include_dashboard=False, log_to_driver=False)
ray.get(ray.remote(lambda: 1).remote())
processes = [str(os.getpid()), *below(os.getpid())]
commands = [pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in processes[1:]]
own = set()
for pid in processes:
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(os.readlink(file))
        except OSError:
            pass
found = []
for name in ("tcp", "tcp6", "udp", "udp6"):
    for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
        fields = line.split()
        if f"socket:[{fields[9]}]" in own:
            found.append([name, fields[1].split(":")[0], fields[2].split(":")[0]])
print(json.dumps({"sockets": found, "dashboard": any("dashboard.py" in each for each in commands),
                  "left": os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")}))
"""
#: As /proc/net has them.
LOOPBACK = ("0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F")
NOBODY = ("00000000", "0" * 32)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ray_listens_to_this_machine_alone_and_asks_nobody_outside():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", LISTENING], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["sockets"]) > 5 and not found["dashboard"] and found["left"] is None
    for kind, local, remote in found["sockets"]:
        assert local in LOOPBACK, (kind, local)
        assert remote in (*LOOPBACK, *NOBODY), (kind, remote)


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="shared memory elsewhere")
def test_shared_memory_that_is_too_small_is_told(monkeypatch):
    monkeypatch.setattr(ray_session, "_OBJECT_STORE", 0)
    assert ray_session.notes_on_shared_memory() == []
    monkeypatch.setattr(ray_session, "_OBJECT_STORE", 2**60)
    (note,) = ray_session.notes_on_shared_memory()
    assert note.startswith("/dev/shm has ") and "goes through files" in note
