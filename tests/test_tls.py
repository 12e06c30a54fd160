import argparse
import contextlib
import re
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from serving import FASTFRAME, PATIENCE, refused, serving
from vectors import frame

from fastframe.servers import arguments, tls


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Names of PEM files: a CA, two server certificates with keys, a client's, and what is none."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    made = {"ca.pem": ca.cert_pem.bytes(), "junk.pem": b"hello", "empty.pem": b""}
    for name in ("server", "second", "client"):
        issued = ca.issue_cert("127.0.0.1", "localhost")
        made[f"{name}.pem"] = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        made[f"{name}.key"] = issued.private_key_pem.bytes()
        made[f"{name}-both.pem"] = made[f"{name}.key"] + made[f"{name}.pem"]
    key = serialization.load_pem_private_key(made["server.key"], None)
    secret = serialization.BestAvailableEncryption(b"secret")
    made["encrypted.key"] = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    made["strangers-ca.pem"] = trustme.CA().cert_pem.bytes()
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return {name: str(folder / name) for name in made} | {"nothing.pem": str(folder / "nothing.pem"), "folder": str(folder)}


def parse(*words):
    parser = argparse.ArgumentParser()
    arguments.add_server_options(parser)
    return parser.parse_args(words)


def client(*words):
    command = [*FASTFRAME, "echo", *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    return result.returncode, result.stdout, result.stderr


def certificate_of(address) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw, context.wrap_socket(raw) as wrapped:
        return wrapped.getpeercert(binary_form=True)


def der(file) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        re.search("-----BEGIN CERT.*?-----END CERT[^-]*-----", Path(file).read_text(), re.DOTALL)[0]
    )


@pytest.mark.parametrize("loop", ["uvloop", "aiofastnet"])
def test_every_loop_serves_with_tls(loop, files):
    with serving("--loop", loop, "--tls-cert", files["server-both.pem"]) as server:
        assert certificate_of(server.address) == der(files["server.pem"])
        assert server.end() == (0, "", "")


def private_memory(pid) -> int:
    """Return the bytes that are the process's own."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Private_"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_idle_connection_takes_at_most_40_kib(loop, files):
    context = ssl.create_default_context(cafile=files["ca.pem"])

    def connect(server):
        wrapped = context.wrap_socket(server.connect(), server_hostname="127.0.0.1")
        wrapped.sendall(frame(b"x"))
        assert wrapped.recv(10) == frame(b"x")
        return wrapped

    with serving("--loop", loop, "--tls-cert", files["server-both.pem"]) as server, contextlib.ExitStack() as stack:
        for _ in range(20):  # what they leave behind is memory that was used
            connect(server).close()
        before = private_memory(server.process.pid)
        for _ in range(150):
            stack.enter_context(connect(server))
        assert (private_memory(server.process.pid) - before) / 150 < 40 << 10


def test_a_client_speaks_tls_with_a_server(files):
    with serving("--tls-cert", files["server.pem"], "--tls-key", files["server.key"]) as server:
        assert client(server.address, "--tls-ca", files["ca.pem"], "hello") == (0, "hello\n", "")
        status, stdout, stderr = client(server.address, "--tls", "hello")
        assert (status, stdout) == (1, "")
        assert "certificate verify failed" in stderr
        assert client(server.address, "--tls-ca", files["ca.pem"], "--tls-name", "example.org", "hello")[0] == 1
        assert server.end() == (0, "", "")


def test_a_client_without_the_right_certificate_gets_nowhere(files):
    both, ca = files["server-both.pem"], files["ca.pem"]
    with serving("--tls-cert", both, "--tls-client-ca", ca, "--log-level", "info") as server:
        ours = ("--tls-cert", files["client.pem"], "--tls-key", files["client.key"])
        assert client(server.address, "--tls-ca", ca, *ours, "hello") == (0, "hello\n", "")
        status, stdout, _ = client(server.address, "--tls-ca", ca, "hello")
        assert (status, stdout) == (1, "")
        assert "handshakes_failed=1" in server.logged("connections failed")
    with serving("--tls-cert", both, "--tls-client-ca", files["strangers-ca.pem"]) as server:
        assert client(server.address, "--tls-ca", ca, *ours, "hello")[:2] == (1, "")


def test_a_unix_socket_may_speak_tls_too(files, tmp_path):
    path = str(tmp_path / "socket")
    with serving("--unix", path, "--tls-cert", files["server-both.pem"]):
        address = f"unix:{path}"
        assert client(address, "--tls-ca", files["ca.pem"], "--tls-name", "localhost", "hello") == (0, "hello\n", "")
        status, _, stderr = client(address, "--tls-ca", files["ca.pem"], "hello")
        assert (status, stderr) == (2, "fastframe: a Unix socket has no name that a certificate could have: say --tls-name\n")


def test_sighup_loads_the_certificate_anew_or_keeps_the_old_one(files, tmp_path):
    cert, key = tmp_path / "cert", tmp_path / "key"

    def put(cert_name, key_name):
        cert.write_bytes(Path(files[cert_name]).read_bytes())
        key.write_bytes(Path(files[key_name]).read_bytes())

    put("server.pem", "server.key")
    with serving("--tls-cert", cert, "--tls-key", key, "--log-level", "info") as server:
        assert certificate_of(server.address) == der(files["server.pem"])
        put("second.pem", "server.key")
        server.process.send_signal(signal.SIGHUP)
        assert "does not belong" in server.logged("certificate not reloaded")
        assert certificate_of(server.address) == der(files["server.pem"])
        put("second.pem", "second.key")
        server.process.send_signal(signal.SIGHUP)
        server.logged("certificate reloaded")
        assert certificate_of(server.address) == der(files["second.pem"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tls-cert", "nothing.pem"], "cannot read {0}: No such file or directory"),
        (["--tls-cert", "folder"], "cannot read {0}: Is a directory"),
        (["--tls-cert", "server.pem", "--tls-key", "nothing.pem"], "cannot read {1}: No such file or directory"),
        (["--tls-cert", "server.pem", "--tls-key", "second.key"], "the key in {1} does not belong to the certificate in {0}"),
        (["--tls-cert", "server.pem"], "{0} and {0} are not a certificate and its key in PEM: "),
        (["--tls-cert", "junk.pem", "--tls-key", "server.key"], "{0} and {1} are not a certificate and its key in PEM: "),
        (["--tls-cert", "server.pem", "--tls-key", "encrypted.key"], "the TLS key is encrypted"),
        (["--tls-cert", "server-both.pem", "--tls-client-ca", "nothing.pem"], "cannot read {1}: No such file or directory"),
        (["--tls-cert", "server-both.pem", "--tls-client-ca", "empty.pem"], "{1} has no CA certificate in PEM: "),
        (["--tls-key", "server.key"], "--tls-key and --tls-client-ca need --tls-cert"),
        (["--tls-client-ca", "ca.pem"], "--tls-key and --tls-client-ca need --tls-cert"),
    ],
)
def test_what_is_wrong_with_the_files_is_told_by_name(words, said, files):
    words = [files.get(word, word) for word in words]
    with pytest.raises(arguments.UsageError) as raised:
        tls.server_context(parse(*words))
    assert str(raised.value).startswith(said.format(*words[1::2]))


def test_a_wrong_file_is_one_line_and_status_2(files):
    assert refused("--tls-cert", files["nothing.pem"]) == (
        2,
        f"fastframe: cannot read {files['nothing.pem']}: No such file or directory\n",
    )


def test_a_server_context_is_strict(files):
    context = tls.server_context(parse("--tls-cert", files["server-both.pem"], "--tls-client-ca", files["ca.pem"]))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert len(context.get_ca_certs()) == 1  # not the system's


def test_a_client_key_needs_its_certificate(files):
    status, _, stderr = client("127.0.0.1:1", "--tls-key", files["client.key"], "x")
    assert (status, stderr) == (2, "fastframe: --tls-key needs --tls-cert\n")
