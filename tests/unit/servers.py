"""A server on loopback that answers exactly the bytes it is told to, and remembers what it was asked."""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Asked:
    """One request as it came: `connection` counts the connections of the server from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Line:
    """The connection to a client, with the ways to treat it badly."""

    socket: socket.socket
    number: int
    ended: threading.Event
    sent: int = 0
    open: bool = True

    def send(self, data: bytes) -> bool:
        """Send `data`; whether the other side still took it."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.open = False
            return False
        self.sent += len(data)
        return True

    def drip(self, data: bytes, pause: float = 0.02) -> None:
        """Send `data` byte by byte for as long as anybody listens."""
        for at in range(len(data)):
            if self.ended.wait(pause) or not self.send(data[at : at + 1]):
                return

    def hang(self) -> None:
        """Say nothing until the test ends or the other side goes."""
        self.socket.settimeout(0.05)
        while not self.ended.is_set():
            try:
                if not self.socket.recv(65_536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.open = False

    def drop(self) -> None:
        """Close without an answer."""
        self.open = False

    def reset(self) -> None:
        """Close with a TCP reset."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.open = False


Answer = Callable[[Line, Asked], None]


def reply(status: int, body: bytes = b"", headers: str = "", *, length: int | None = None) -> Answer:
    """An ordinary answer; `length` is a Content-Length that may lie."""

    def answer(line: Line, _: Asked) -> None:
        size = len(body) if length is None else length
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n{headers}\r\n"
        line.send(head.encode() + body)
        if size > len(body):
            line.drop()

    return answer


def first(data: bytes, then: Callable[[Line], None]) -> Answer:
    """Send `data`, and then treat the connection in this way."""

    def answer(line: Line, _: Asked) -> None:
        if line.send(data):
            then(line)

    return answer


def dripping(data: bytes, pause: float = 0.02) -> Callable[[Line], None]:
    """To send `data` byte by byte."""
    return lambda line: line.drip(data, pause)


def hang(line: Line, _: Asked) -> None:
    """Take the request and never answer."""
    line.hang()


def drop(line: Line, _: Asked) -> None:
    """Take the request and close."""
    line.drop()


def reset(line: Line, _: Asked) -> None:
    """Take the request and reset the connection."""
    line.reset()


@dataclass
class Server:
    """An HTTP server, over TLS with a `tls` context. Answers in turn, the last one for all that follow."""

    answers: list[Answer] = field(default_factory=lambda: [hang])
    tls: ssl.SSLContext | None = None
    silent: bool = False
    """Accepts connections and never says anything, not even in a handshake."""
    ready: threading.Event | None = None
    """The TLS handshake waits for this event, if there is one."""
    asked: list[Asked] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    """All bytes of all requests, also of those that broke off and so were not asked."""
    connections: int = 0
    lines: list[Line] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Server":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        # Wakes whoever waits: the one for another connection, the others for more of theirs.
        socket.create_connection(("127.0.0.1", self.port)).close()
        for line in self.lines:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(line.socket, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def say(self, *answers: Answer) -> None:
        """What to answer from now on."""
        self.answers = list(answers)

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        """The token endpoint of this server."""
        return f"{scheme}://{host}:{self.port}/test/token"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            sock, _ = self._listener.accept()
            if self.ended.is_set():
                sock.close()
                return
            self.connections += 1
            self._start(self._serve, sock, self.connections)

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(None)
        # As servers do: else what follows a TLS handshake waits for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(sock, number, self.ended)
        self.lines.append(line)
        try:
            if self.silent:
                line.hang()
                return
            if self.tls is not None:
                if self.ready is not None:
                    self.ready.wait(15)
                sock.settimeout(5)
                line.socket = self.tls.wrap_socket(sock, server_side=True)
            while line.open and not self.ended.is_set():
                request = self._read(line)
                if request is None:
                    return
                with self._lock:
                    self.asked.append(request)
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                line.socket.settimeout(5)
                answer(line, request)
        except OSError:
            pass
        finally:
            line.open = False
            line.socket.close()
            sock.close()

    def _read(self, line: Line) -> Asked | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._receive(line)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line_.partition(":") for line_ in rest)}
        while len(body) < int(headers.get("content-length", 0)):
            more = self._receive(line)
            if not more:
                return None
            body += more
        return Asked(method, path, headers, body, line.number)

    def _receive(self, line: Line) -> bytes:
        """The next bytes, or none once the connection or the test has ended."""
        line.socket.settimeout(0.05)
        while not self.ended.is_set():
            try:
                data = line.socket.recv(65_536)
                self.received += data
                return data
            except TimeoutError:
                continue
        return b""


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true within a few seconds."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


class Certificates:
    """Self-signed certificates in a folder."""

    def __init__(self, folder: Path) -> None:
        self.good = self._make(folder / "good.pem", [x509.IPAddress(ip_address("127.0.0.1"))])
        self.other_host = self._make(folder / "other.pem", [x509.DNSName("other.example")])

    @staticmethod
    def context(path: Path) -> ssl.SSLContext:
        """The server's side of one of them."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    @staticmethod
    def _make(path: Path, names: list[x509.GeneralName]) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "unit test")])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .sign(key, hashes.SHA256())
        )
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path
