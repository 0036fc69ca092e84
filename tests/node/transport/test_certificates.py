import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mcpcore.ctl.certs import app
from mcpcore.errors import InvalidInput
from mcpcore.node.addresses import Address
from mcpcore.node.certificates import (
    CA_VALIDITY,
    LEAF_VALIDITY,
    Authority,
    describe,
    load_certificate,
    write_pairs,
)
from mcpcore.node.dialing import connect_client
from mcpcore.node.identity import CertifiedRole
from mcpcore.node.security import Tls
from tests.node.transport.town import Town, until

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NODE = CertifiedRole.NODE


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with an authority and one node's certificate."""
    authority = Authority.create("north")
    write_pairs({tmp_path / "ca": authority.pair, tmp_path / "a": authority.issue(NODE, "a")})
    return tmp_path


def run(*words: str | Path):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def test_an_authority_lasts_ten_years_and_a_leaf_one(tmp_path: Path):
    authority = Authority.create("north", now=NOW)
    leaf = authority.issue(NODE, "a", ["10.0.0.1", "::1", "db1.example.net"], now=NOW)
    write_pairs({tmp_path / "ca": authority.pair, tmp_path / "a": leaf})
    ca, a = (describe(load_certificate(tmp_path / f"{name}.crt")) for name in ("ca", "a"))
    assert ca.not_after == NOW + CA_VALIDITY
    assert a.not_after == NOW + LEAF_VALIDITY
    assert a.not_before < NOW, "a machine whose clock is behind must be able to use it at once"
    assert (ca.is_authority, a.is_authority) == (True, False)
    assert a.identity == "mcpcore://north/node/a"
    assert set(a.hosts) == {"10.0.0.1", "::1", "db1.example.net"}


def test_a_leaf_never_outlives_its_authority(tmp_path: Path):
    authority = Authority.create("north", now=NOW)
    late = authority.issue(NODE, "a", now=NOW + CA_VALIDITY - timedelta(days=5))
    write_pairs({tmp_path / "a": late})
    assert describe(load_certificate(tmp_path / "a.crt")).not_after == NOW + CA_VALIDITY


def test_an_authority_knows_what_it_has_signed(made: Path):
    leaf = load_certificate(made / "a.crt")
    assert Authority.load(made / "ca.crt", made / "ca.key").has_signed(leaf)
    assert not Authority.create("north").has_signed(leaf)


def test_openssl_agrees_that_the_chain_is_strictly_valid(made: Path):
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", made / "ca.crt", made / "a.crt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("OK"), done.stdout + done.stderr


def test_private_keys_are_for_their_owners_eyes_only(made: Path):
    for name in ("ca.key", "a.key"):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600


def test_nothing_is_overwritten_unless_forced_and_then_everything(made: Path):
    before = (made / "a.key").read_bytes()
    pairs = {made / "new": Authority.create("n").pair, made / "a": Authority.create("n").pair}
    with pytest.raises(InvalidInput, match=r"a\.key would be overwritten; nothing was written"):
        write_pairs(pairs)
    assert (made / "a.key").read_bytes() == before
    assert not (made / "new.key").exists()
    write_pairs(pairs, force=True)
    assert (made / "a.key").read_bytes() != before
    assert stat.S_IMODE((made / "a.key").stat().st_mode) == 0o600
    assert not list(made.glob("*.new"))


@pytest.mark.parametrize("host", ["", "a b", "10.0.0.256", "a:7400", "ä.example", "x" * 64, "a/b"])
def test_what_is_no_host_is_not_certified(host: str):
    with pytest.raises(InvalidInput, match="neither an IP address nor a host name"):
        Authority.create("north").issue(NODE, "a", [host])


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 64, "ä"])
def test_what_is_no_name_is_not_certified(name: str):
    with pytest.raises(InvalidInput, match="is no name"):
        Authority.create("north").issue(NODE, name)


def test_an_authority_with_anothers_key_is_refused(made: Path):
    with pytest.raises(InvalidInput, match="this key is not that of"):
        Authority.load(made / "ca.crt", made / "a.key")
    with pytest.raises(InvalidInput, match="no authority made by mcpcore"):
        Authority.load(made / "a.crt", made / "a.key")
    with pytest.raises(InvalidInput, match="No such file"):
        Authority.load(made / "none.crt", made / "a.key")
    with pytest.raises(InvalidInput, match="a private key cannot be read"):
        Authority.load(made / "ca.crt", made / "ca.crt")


# --- what a node makes of files -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "says"),
    [
        ("ca.crt", "none.crt", "a.key", r"none\.crt: .*No such file"),
        ("ca.crt", "a.crt", "none.key", r"none\.key: .*No such file"),
        ("none.crt", "a.crt", "a.key", r"none\.crt: .*No such file"),
        ("a.key", "a.crt", "a.key", r"a\.key: the authority's certificate cannot be loaded"),
        ("ca.crt", "a.key", "a.key", r"a\.key: a certificate cannot be loaded"),
        ("ca.crt", "a.crt", "ca.key", "the key belongs to another certificate"),
        ("ca.crt", "a.crt", "a.crt", r"a\.crt: the private key of .* cannot be loaded"),
        ("ca.crt", "ca.crt", "ca.key", "needs exactly one mcpcore:// URI"),
        ("ca.crt", "a.crt", "locked.key", "nobody is there to type its passphrase"),
    ],
)
def test_a_bad_file_is_named_at_once(made: Path, ca: str, certificate: str, key: str, says: str):
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", "a.key", "-out", "locked.key"],
        cwd=made,
        check=True,
    )
    with pytest.raises(InvalidInput, match=says) as refusal:
        Tls(made / ca, made / certificate, made / key)
    assert refusal.value.remedy


def test_tls_1_3_and_a_certificate_are_demanded_by_both_sides(made: Path):
    tls = Tls(made / "ca.crt", made / "a.crt", made / "a.key")
    for context in (tls.client_context(), tls.server_context(lambda why: None)):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.verify_flags & ssl.VERIFY_X509_STRICT


async def test_a_node_takes_up_renewed_certificates_without_a_restart(made: Path, town: Town):
    authority = Authority.load(made / "ca.crt", made / "ca.key")
    write_pairs({made / "app": authority.issue(CertifiedRole.CLIENT, "app")})
    client = Tls(made / "ca.crt", made / "app.crt", made / "app.key")
    node = await town.node("a", security=Tls(made / "ca.crt", made / "a.crt", made / "a.key"))

    async def serial() -> int:
        connection = await connect_client(node.address, client, cluster="north", name="app")
        shown = connection._transport.get_extra_info("peercert")["serialNumber"]
        connection.close()
        return int(shown, 16)

    first = describe(load_certificate(made / "a.crt")).serial
    assert await serial() == first
    write_pairs({made / "a": authority.issue(NODE, "a")}, force=True)
    assert await serial() == first
    node.transport.renew_certificates()
    second = describe(load_certificate(made / "a.crt")).serial
    assert await serial() == second != first

    for wrong in (authority.issue(NODE, "b"), None):
        if wrong:
            write_pairs({made / "a": wrong}, force=True)
        else:
            (made / "a.crt").write_text("torn")
        with pytest.raises(InvalidInput):
            node.transport.renew_certificates()
        assert await serial() == second, "a failed renewal changes nothing"


def test_the_import_of_a_nodes_transport_does_not_wait_for_cryptography():
    code = "import sys, mcpcore.node.transport; sys.exit('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0


# --- mcpctl certs -------------------------------------------------------------------------------


async def test_what_init_makes_lets_nodes_and_users_in(tmp_path: Path, town: Town):
    """The whole way: the command, the files, a node, a client."""
    done = run(
        "init", tmp_path / "c", "--cluster", "north", "--node", "a=10.0.0.1,localhost",
        "--node", "b", "--client", "app", "--admin", "ops",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for line in ("node-a.crt", "mcpcore://north/node/a", "10.0.0.1", "ca.key"):
        assert line in done.output

    def tls(name: str) -> Tls:
        c = tmp_path / "c"
        return Tls(c / "ca.crt", c / f"{name}.crt", c / f"{name}.key")

    node = await town.node("a", security=tls("node-a"))
    client = await connect_client(node.address, tls("client-app"), cluster="north", name="app")
    client.send(b"hi")
    await until(lambda: node.heard.client_frames == [("app", b"hi")])
    client.close()
    assert isinstance(node.address, Address)


def test_init_does_not_touch_what_is_there(made: Path):
    before = (made / "ca.key").read_bytes()
    done = run("init", made, "--node", "x")
    assert done.exit_code == 2
    assert "would be overwritten" in done.output
    assert (made / "ca.key").read_bytes() == before
    assert not (made / "node-x.key").exists()


def test_add_signs_with_the_authority_that_is_there(made: Path):
    assert run("add", made, "--node", "d=127.0.0.1", "--client", "d").exit_code == 0
    authority = Authority.load(made / "ca.crt", made / "ca.key")
    for name in ("node-d", "client-d"):
        assert authority.has_signed(load_certificate(made / f"{name}.crt"))


def test_show_says_who_and_until_when_and_complains_of_the_expired(made: Path):
    done = run("show", made / "ca.crt", made / "a.crt")
    assert done.exit_code == 0
    assert "authority" in done.output
    assert "mcpcore://north/node/a" in done.output
    old = Authority.create("north").issue(NODE, "old", now=NOW - timedelta(days=9999))
    write_pairs({made / "old": old})
    done = run("show", made / "old.crt")
    assert done.exit_code == 1
    assert "expired" in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "{made}"], "nobody to certify"),
        (["add", "{made}", "--node", "a b"], "is no name"),
        (["add", "{made}", "--node", "n=1.2.3.4.5"], "neither an IP address nor a host name"),
        (["add", "{made}", "--client", "c=10.0.0.1"], "only nodes have addresses"),
        (["add", "{made}", "--node", "n", "--node", "n=::1"], "given twice"),
        (["add", "{made}/nowhere", "--node", "n"], "No such file"),
        (["init", "{made}/x", "--cluster", "a/b"], "is no name"),
        (["init", "{made}/ca.crt/x"], "cannot be written"),
        (["show", "{made}/a.key"], "cannot be read"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(made: Path, words: list[str], says: str):
    done = run(*(word.format(made=made) for word in words))
    assert done.exit_code == 2
    assert says in done.output
    assert done.output.startswith("error: ")
    assert len(done.output.splitlines()) == 1
    assert "Traceback" not in done.output
