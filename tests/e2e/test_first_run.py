"""First start, later starts, presets and refusals of `gatehouse serve`; and that its end leaves nothing running."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.wire import Modern
from tests.support.attacks import attack
from tests.support.components.machine import free_port
from tests.support.components.node import NpmPackage
from tests.support.gateway import FIRST_RUN, OPERATOR_TOKEN, Answer, RunningGateway, exchange, new_key, run_gatehouse
from tests.support.servers.everything import stdio_command
from tests.support.servers.process import alive, command_line, descendants

NAMES = {"url", "admin_email", "admin_password", "admin_api_key", "agent_api_key"}
PRESET_KEY = "mcp_preset01_" + "Zk3vQ9wLr7TnB2xYc5Hs8JdM4fGp6Aue"
KEY = re.compile(r"mcp_[A-Za-z0-9_-]{32,}")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("first") / "data") as made:
        yield made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_prints_the_admin_key_once_and_a_line_for_claude(gateway: RunningGateway) -> None:
    assert gateway.output.count(gateway.admin_key) == 1
    (line,) = [line.strip() for line in gateway.output.splitlines() if "claude mcp add" in line]
    words = shlex.split(line[line.index("claude mcp add") :])
    assert words[:5] == ["claude", "mcp", "add", "--transport", "http"]
    assert f"{gateway.url}/mcp" in words
    assert words[words.index("--header") + 1] == f"Authorization: Bearer {gateway.agent_key}"


def test_it_keeps_what_it_made_for_its_owner_alone(gateway: RunningGateway) -> None:
    kept = gateway.first_run()
    assert set(kept) == NAMES
    assert all(kept.values())
    assert kept["url"].startswith(gateway.url)
    assert KEY.fullmatch(kept["admin_api_key"])
    assert KEY.fullmatch(kept["agent_api_key"])
    assert kept["admin_api_key"] != kept["agent_api_key"]
    assert mode_of(gateway.data_dir / FIRST_RUN) == 0o600
    assert mode_of(gateway.data_dir / OPERATOR_TOKEN) == 0o600
    assert mode_of(gateway.data_dir) & 0o077 == 0


def test_what_it_made_opens_it(gateway: RunningGateway) -> None:
    kept = gateway.first_run()
    assert gateway.rest("GET", "/v1/mcp/servers").status == 200
    assert gateway.rest("GET", "/v1/mcp/servers", key=gateway.agent_key).status == 200
    body = json.dumps({"email": kept["admin_email"], "password": kept["admin_password"]}).encode()
    answer = exchange(f"{gateway.url}/v1/auth/login", "POST", headers={"Content-Type": "application/json"}, body=body)
    assert answer.status == 200, answer.text
    assert gateway.rest("GET", "/v1/mcp/servers", key=answer.json()["access_token"]).status == 200
    assert "gatehouse__servers_list" in Modern(f"{gateway.url}/mcp", gateway.agent_key).listed("tools")


def test_probes_answer_without_a_key(gateway: RunningGateway) -> None:
    for path in ("/health", "/livez", "/readyz"):
        assert exchange(gateway.url + path).status == 200
    assert exchange(f"{gateway.url}/health").json()["status"] == "healthy"


def test_the_command_line_finds_the_key_by_itself(gateway: RunningGateway) -> None:
    own = {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_DATA_DIR": str(gateway.data_dir)}
    ran = run_gatehouse("servers", "list", home=gateway.home, **own)
    assert ran.code == 0, ran.both


def test_a_second_start_prints_and_changes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with RunningGateway(data) as first:
        kept = (data / FIRST_RUN).read_bytes()
        admin, agent = first.admin_key, first.agent_key
    with RunningGateway(data, port=first.port) as second:
        assert admin not in second.output
        assert agent not in second.output
        assert not KEY.search(second.output)
        assert (data / FIRST_RUN).read_bytes() == kept
        assert second.rest("GET", "/v1/mcp/servers", key=admin).status == 200


def test_a_preset_admin_is_honoured_and_not_written_down(tmp_path: Path) -> None:
    preset = {
        "GATEHOUSE_ADMIN_EMAIL": "keeper@gate.example",
        "GATEHOUSE_ADMIN_PASSWORD": "correct horse battery staple",
        "GATEHOUSE_ADMIN_API_KEY": PRESET_KEY,
    }
    with RunningGateway(tmp_path / "data", env=preset) as gateway:
        assert gateway.rest("GET", "/v1/mcp/servers", key=PRESET_KEY).status == 200
        body = json.dumps({"email": preset["GATEHOUSE_ADMIN_EMAIL"], "password": preset["GATEHOUSE_ADMIN_PASSWORD"]})
        headers = {"Content-Type": "application/json"}
        login = exchange(f"{gateway.url}/v1/auth/login", "POST", headers=headers, body=body.encode())
        assert login.status == 200, login.text
        assert set(gateway.first_run()) == {"url", "agent_api_key"}
        written = (gateway.data_dir / FIRST_RUN).read_text() + gateway.output
        assert not [value for value in (PRESET_KEY, preset["GATEHOUSE_ADMIN_PASSWORD"]) if value in written]


@attack(15)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEHOUSE_ADMIM_EMAIL", "keeper@gate.example"),
        ("GATEHOUSE_SECRET_KEY", "Xk9-few-bytes"),
        ("GATEHOUSE_SECRET_KEY", "changeme" * 8),
        ("GATEHOUSE_ADMIN_API_KEY", "mcp_preset01_short"),
        ("GATEHOUSE_ADMIN_API_KEY", "no prefix, but long enough to be a key of sorts"),
        ("GATEHOUSE_DATABASE_URL", "nonsense"),
        ("GATEHOUSE_RATE_LIMITS", "perhaps"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    serve = ["serve", "--port", str(free_port()), "--data-dir", str(tmp_path / "data")]
    ran = run_gatehouse(*serve, home=tmp_path, **{name: value})
    assert ran.code != 0
    assert name in ran.err
    assert "Traceback" not in ran.both
    assert len(ran.err.strip().splitlines()) <= 3
    assert name == "GATEHOUSE_ADMIM_EMAIL" or value not in ran.both


def test_a_port_in_use_is_said_in_a_sentence(gateway: RunningGateway, tmp_path: Path) -> None:
    ran = run_gatehouse("serve", "--port", str(gateway.port), "--data-dir", str(tmp_path / "data"), home=tmp_path)
    assert ran.code != 0
    assert str(gateway.port) in ran.both
    assert "Traceback" not in ran.both


@attack(14)
class TestStdioNeedsTheMachine:
    """Whoever registers a command runs it: that takes the operator's permission and proof of being on the machine."""

    def register(self, gateway: RunningGateway, key: str, **headers: str) -> Answer:
        body = {"name": "commanded", "command": "/bin/true", "args": []}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return gateway.rest("POST", "/v1/mcp/servers", body, key=key, headers=sent)

    def names(self, gateway: RunningGateway) -> list[str]:
        return [server["name"] for server in gateway.rest("GET", "/v1/mcp/servers").json()["servers"]]

    def test_not_even_the_admin_without_proof(self, gateway: RunningGateway) -> None:
        assert self.register(gateway, gateway.admin_key).status == 403
        assert self.register(gateway, gateway.admin_key, X_Gatehouse_Operator="wrong").status == 403
        assert "commanded" not in self.names(gateway)

    def test_nor_the_agent_with_it(self, gateway: RunningGateway) -> None:
        assert self.register(gateway, gateway.agent_key, X_Gatehouse_Operator=gateway.operator_token).status == 403
        assert "commanded" not in self.names(gateway)

    def test_nor_a_key_that_may_register_but_not_operate(self, gateway: RunningGateway) -> None:
        key = new_key(gateway, "registers", permissions=["mcp:servers:create", "mcp:servers:update"])
        assert self.register(gateway, key, X_Gatehouse_Operator=gateway.operator_token).status == 403
        assert "commanded" not in self.names(gateway)

    def test_nor_by_a_tool_of_the_gateway(self, gateway: RunningGateway) -> None:
        admin = Modern(f"{gateway.url}/mcp", gateway.admin_key)
        asked = {"name": "commanded", "command": "/bin/true"}
        answer = admin.send("tools/call", {"name": "gatehouse__servers_register", "arguments": asked})
        message = answer.json()
        assert "error" in message or message["result"]["isError"], message
        assert "commanded" not in self.names(gateway)

    def test_nor_by_turning_another_server_into_one(self, gateway: RunningGateway) -> None:
        made = gateway.rest("POST", "/v1/mcp/servers", {"name": "turning", "base_url": "http://127.0.0.1:9/mcp"})
        assert made.status == 201, made.text
        place = f"/v1/mcp/servers/{made.json()['id']}"
        gateway.rest("PUT", place, {"command": "/bin/true"})
        gateway.rest("PUT", place, {"transport": "stdio", "command": "/bin/true"})
        shown = gateway.rest("GET", place).json()
        assert (shown["transport"], shown["command"]) == ("streamable-http", None)
        assert gateway.rest("DELETE", place).status == 200

    def test_nor_by_giving_a_registered_command_other_arguments(self, gateway: RunningGateway) -> None:
        proof = {"X-Gatehouse-Operator": gateway.operator_token}
        body = {"name": "argued", "command": "/bin/true", "args": ["one"]}
        made = gateway.rest("POST", "/v1/mcp/servers", body, headers=proof)
        assert made.status == 201, made.text
        place = f"/v1/mcp/servers/{made.json()['id']}"
        assert gateway.rest("PUT", place, {"args": ["two"]}).status == 403
        assert gateway.rest("PUT", place, {"env": {"LD_PRELOAD": "/x.so"}}).status == 403
        assert gateway.rest("PUT", place, {"args": ["two"]}, headers=proof).status == 200
        assert gateway.rest("DELETE", place).status == 200

    def test_the_admin_with_proof_may(self, gateway: RunningGateway) -> None:
        answer = self.register(gateway, gateway.admin_key, X_Gatehouse_Operator=gateway.operator_token)
        assert answer.status == 201, answer.text
        assert answer.json()["transport"] == "stdio"
        assert gateway.rest("DELETE", f"/v1/mcp/servers/{answer.json()['id']}").status == 200


def test_a_stdio_child_sees_its_registered_environment_only(everything_package: NpmPackage, tmp_path: Path) -> None:
    with RunningGateway(tmp_path / "data", env={"CLOUD_TOKEN": "not for children"}) as gateway:
        ran = gateway.cli("servers", "add", "one", "--env", "GIVEN=yes", "--", *stdio_command(everything_package))
        assert ran.code == 0, ran.both
        agent = Modern(f"{gateway.url}/mcp", gateway.agent_key)
        gateway.child.wait_until(lambda: "one__get-env" in agent.listed("tools"))
        seen = json.loads(agent.call("one__get-env"))
        assert set(seen) == {"PATH", "HOME", "LANG", "GIVEN"}
        assert seen["GIVEN"] == "yes"
        assert Path(seen["HOME"]) not in (gateway.home, gateway.data_dir)
        # Another one comes and goes while the gateway looks at what the server offers.
        gateway.child.wait_until(lambda: len(servers_below(gateway)) == 1)
        (server,) = servers_below(gateway)
        if os.getuid() == 0:
            assert Path(f"/proc/{server}").stat().st_uid != 0
        else:
            # Only root can give a child another user.
            assert Path(f"/proc/{server}").stat().st_uid == os.getuid()


def servers_below(gateway: RunningGateway) -> list[int]:
    """Pids of the reference server's processes."""
    return [pid for pid in descendants(gateway.pid) if b"server-everything" in command_line(pid)]


@pytest.mark.requirement("stdio.shutdown")
def test_the_end_of_the_gateway_is_the_end_of_its_children(everything_package: NpmPackage, tmp_path: Path) -> None:
    with RunningGateway(tmp_path / "data") as gateway:
        for name in ("one", "two"):
            ran = gateway.cli("servers", "add", name, "--", *stdio_command(everything_package))
            assert ran.code == 0, ran.both
        agent = Modern(f"{gateway.url}/mcp", gateway.agent_key)
        gateway.child.wait_until(lambda: {"one__echo", "two__echo"} <= set(agent.listed("tools")))
        assert agent.call("one__echo", message="x") == agent.call("two__echo", message="x") == "Echo: x"
        children = descendants(gateway.pid)
        gateway.child.wait_until(lambda: len(servers_below(gateway)) == 2)
        assert gateway.stop() in (0, -signal.SIGTERM)
        assert [pid for pid in children if alive(pid)] == []


def test_a_removed_server_ends_its_child(everything_package: NpmPackage, tmp_path: Path) -> None:
    with RunningGateway(tmp_path / "data") as gateway:
        assert gateway.cli("servers", "add", "one", "--", *stdio_command(everything_package)).code == 0
        agent = Modern(f"{gateway.url}/mcp", gateway.agent_key)
        gateway.child.wait_until(lambda: "one__echo" in agent.listed("tools"))
        assert agent.call("one__echo", message="x") == "Echo: x"
        children = descendants(gateway.pid)
        assert gateway.cli("servers", "remove", "one").code == 0
        assert [name for name in agent.listed("tools") if name.startswith("one__")] == []
        gateway.child.wait_until(lambda: not [pid for pid in children if alive(pid)])
