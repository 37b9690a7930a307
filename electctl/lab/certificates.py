"""Certificates for servers of a lab: an authority of its own, a server's and a client's.

What this does not guarantee: secrecy. The keys lie unencrypted under the lab's directory.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from electctl.errors import Unreachable
from electctl.lab.ports import HOST
from electctl.lab.server import find_program


def make_certificates(folder: Path, client_name: str = "electctl lab client") -> None:
    """Make ``ca``, ``server`` and ``client``, each ``.crt`` and ``.key``, unless they are there.

    The server's is for 127.0.0.1 and localhost, the client's subject is ``client_name``. Raises
    MissingDependency without openssl.
    """
    if (folder / "client.crt").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    _certificate(folder, "ca", "electctl lab")
    _certificate(folder, "server", "electctl lab server", signed_by="ca")
    _certificate(folder, "client", client_name, signed_by="ca")


def _certificate(folder: Path, name: str, subject: str, signed_by: str = "") -> None:
    command = [find_program("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "3650"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={subject}"]
    if signed_by:
        command += ["-CA", f"{signed_by}.crt", "-CAkey", f"{signed_by}.key"]
        command += ["-addext", f"subjectAltName=IP:{HOST},DNS:localhost"]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    # Its exit code is lost where SIGCHLD is ignored.
    if done.returncode != 0 or not (folder / f"{name}.crt").exists():
        raise Unreachable(f"openssl could not make a certificate: {done.stderr.strip()}")
