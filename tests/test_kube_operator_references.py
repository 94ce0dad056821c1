"""What a swarm refers to and its user owns: hooks, a certificate, keys. With real agents: what is missing, broken,
changed and taken away, and which agents start again because of it.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gossipswarm_operator.agent_documents import AgentAddress, agent_url
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import CONFIG_MAPS, PODS, SECRETS, SWARMS, KubeClient
from gossipswarm_operator.keyring import Key
from kube_certificates import Authority
from kube_operator_agents import SETTLED, addresses, operating, rests, stands
from kube_operator_load import under_load
from kube_operator_runs import (
    Calls,
    cluster_admin,
    condition,
    followed,
    operator_account,
    swarm,
    until,
)
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

REGIONS = [{"name": "us-east", "replicas": 2}, {"name": "eu-west", "replicas": 1}]
ORDER = ["demo-us-east-1", "demo-us-east-0", "demo-eu-west-0"]


async def says(admin: KubeClient, namespace: str, kind: str, reason: str, *texts: str) -> None:
    """Wait until a condition has this reason and its message these texts."""

    said: dict[str, Any] = {}

    async def is_said() -> bool:
        found = await admin.get(SWARMS, namespace, "demo")
        assert found is not None
        if "status" in found:
            said.update(condition(found, kind))
        return said.get("reason") == reason and all(text in said["message"] for text in texts)

    try:
        await until(is_said)
    except AssertionError:
        raise AssertionError(f"not {reason} with {texts}, but {said}") from None


async def looked(calls: Calls, count: int) -> None:
    """Wait until the operator has looked at the swarm so often."""
    calls.seen.clear()

    async def has() -> bool:
        return calls.seen.count(("get", "gossipswarms")) >= count

    await until(has)


async def uids(admin: KubeClient, namespace: str) -> dict[str, str]:
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in await admin.list_all(PODS, namespace)
    }


async def replaced(
    changes: list[tuple[str, Any]], before: dict[str, str], count: int = 3
) -> list[str]:
    """Wait until so many pods are others than before; their names in the order in which that came about."""

    async def are() -> list[str] | None:
        made = [pod["metadata"] for kind, pod in changes if kind == "ADDED"]
        last = max(n for n, metadata in enumerate(made) if metadata["uid"] in before.values())
        order = list(dict.fromkeys(metadata["name"] for metadata in made[last + 1 :]))
        return order if len(order) >= count else None

    order: list[str] = await until(are)
    return order


async def put(admin: KubeClient, namespace: str, body: dict[str, Any]) -> None:
    """Create an object of the user's, or replace what it holds."""
    resource = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}[body["kind"]]
    name = body["metadata"]["name"]
    body = {"apiVersion": "v1", **body, "metadata": {"name": name, "namespace": namespace}}
    await admin.delete(resource, namespace, name)
    await admin.create(body)


def hooks(text: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": "hooks"}, "data": {"hooks.yaml": text}}


def saying(message: str) -> dict[str, Any]:
    return hooks(f"hooks:\n  post-edit:\n    - http: http://127.0.0.1:9/{message}\n")


async def test_hooks_are_waited_for_followed_and_survived_when_they_are_broken_or_gone(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=REGIONS, hooks={"configMapName": "hooks"}))
    async with (
        followed(admin, PODS, namespace) as changes,
        operating(account, namespace) as calls,
    ):
        await says(admin, namespace, "Progressing", "ReferenceMissing", "ConfigMap hooks")
        await put(admin, namespace, saying("first"))
        await stands(admin, namespace, **SETTLED)
        assert all("first" in text for text in await hooks_of_all(admin, namespace))

        before = await uids(admin, namespace)
        async with under_load(admin, namespace) as load:
            await put(admin, namespace, saying("second"))
            assert await replaced(changes, before) == ORDER
            await stands(admin, namespace, **SETTLED)
        assert load.least_ready == 2
        assert all("second" in text for text in await hooks_of_all(admin, namespace))

        before = await uids(admin, namespace)
        await admin.delete(CONFIG_MAPS, namespace, "hooks")
        await says(admin, namespace, "Progressing", "ReferenceMissing", "ConfigMap hooks")
        await rests(calls)
        await put(admin, namespace, saying("second"))
        await stands(admin, namespace, **SETTLED)
        await rests(calls)
        assert await uids(admin, namespace) == before, "nobody started again for that"

        await put(admin, namespace, hooks("hooks: ["))
        assert await replaced(changes, before, 1) == ORDER[:1]
        await says(admin, namespace, "Ready", "CrashLoopBackOff", ORDER[0])
        await says(admin, namespace, "Progressing", "Updating", ORDER[0])
        await looked(calls, 5)
        assert await replaced(changes, before, 1) == ORDER[:1], "it stops at the first"
        assert "is no YAML" in podlet.log_of(namespace, ORDER[0]).read_text("utf-8")

        await put(admin, namespace, saying("third"))
        await replaced(changes, before)
        await stands(admin, namespace, **SETTLED)
        assert all("third" in text for text in await hooks_of_all(admin, namespace))


async def hooks_of_all(admin: KubeClient, namespace: str) -> list[str]:
    found = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        for agent in await addresses(admin, namespace):
            headers = {"Authorization": f"Bearer {agent.token}"}
            async with session.get(f"{agent.url}/v1/hooks", headers=headers) as answer:
                assert answer.status == 200
                found.append(await answer.text())
    return found


def certificate(directory: Path, authority: Authority, name: str) -> dict[str, Any]:
    """The Secret that a tool for certificates makes."""
    authority.server(name, [], ["demo"])
    crt, key = authority.pair(name)
    data = {"tls.crt": crt, "tls.key": key, "ca.crt": authority.certificate}
    return {
        "kind": "Secret",
        "metadata": {"name": "demo-tls"},
        "type": "kubernetes.io/tls",
        "data": {
            field: base64.b64encode(path.read_bytes()).decode() for field, path in data.items()
        },
    }


async def test_agents_serve_the_users_certificate_and_take_its_successors(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet, tmp_path: Path
):
    first, other = Authority(tmp_path / "first"), Authority(tmp_path / "other")
    await admin.create(swarm(namespace, regions=REGIONS, api={"tls": {"secretName": "demo-tls"}}))
    async with operating(account, namespace) as calls:
        await says(admin, namespace, "Progressing", "ReferenceMissing", "Secret demo-tls")
        await put(admin, namespace, certificate(tmp_path, first, "one"))
        await stands(admin, namespace, **SETTLED)
        assert await served_by(admin, namespace, first) == 3
        plain = (await addresses(admin, namespace))[0]
        async with AgentsApi() as api:
            answers = await ask_all([plain], api.info)
        assert isinstance(answers[plain.name], Exception), "not without TLS"

        # Another authority: agents that serve by the old one cannot be asked until they have the new certificate.
        before = await uids(admin, namespace)
        await put(admin, namespace, certificate(tmp_path, other, "two"))

        async def is_renewed() -> bool:
            return await served_by(admin, namespace, other) == 3

        await until(is_renewed)
        await stands(admin, namespace, **SETTLED)
        assert await uids(admin, namespace) == before, "nobody had to start again"

        await admin.delete(SECRETS, namespace, "demo-tls")
        await says(admin, namespace, "Progressing", "ReferenceMissing", "Secret demo-tls")
        await rests(calls)
        await put(admin, namespace, certificate(tmp_path, other, "two"))
        await stands(admin, namespace, Converged="True", Ready="True")
        assert await uids(admin, namespace) == before


async def served_by(admin: KubeClient, namespace: str, authority: Authority) -> int:
    """Agents whose certificate is of this authority."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    count = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        for pod in await admin.list_all(PODS, namespace):
            url = agent_url(pod["status"]["podIP"], tls=True)
            with contextlib.suppress(aiohttp.ClientConnectorCertificateError):
                async with session.get(f"{url}/readyz", ssl=context) as answer:
                    count += answer.status == 200
    return count


def ring(*keys: Key) -> dict[str, Any]:
    data = {
        f"{position}-key": base64.b64encode(f"{key.material}\n".encode()).decode()
        for position, key in enumerate(keys)
    }
    return {"kind": "Secret", "metadata": {"name": "ours"}, "data": data}


def key() -> Key:
    return Key(base64.b64encode(secrets.token_bytes(32)).decode())


async def test_keys_of_the_user_are_waited_for_and_followed_step_by_step(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    old, new = key(), key()
    await admin.create(swarm(namespace, regions=REGIONS, encryption={"secretName": "ours"}))
    async with operating(account, namespace), AgentsApi() as api:
        await says(admin, namespace, "KeyringInSync", "NoKeys", "Secret ours")
        broken = {"kind": "Secret", "metadata": {"name": "ours"}, "data": {"primary": "YQ=="}}
        await put(admin, namespace, broken)
        await says(admin, namespace, "KeyringInSync", "NoKeys", "Secret ours", "not a key")
        await put(admin, namespace, ring(old))
        await stands(admin, namespace, **SETTLED)
        assert await admin.get(SECRETS, namespace, "demo-keyring") is None
        agents = await addresses(admin, namespace)
        before = await uids(admin, namespace)
        async with under_load(admin, namespace):
            for keys in ((old, new), (new, old), (new,)):
                await put(admin, namespace, ring(*keys))
                wanted = [each.id for each in keys]
                await until(all_hold(api, agents, wanted))
                await stands(admin, namespace, **SETTLED)
        assert await uids(admin, namespace) == before
        mine = await admin.get(SECRETS, namespace, "ours")
        assert mine is not None
        assert len(mine["metadata"]["managedFields"]) == 1, "nobody else wrote to it"


def all_hold(
    api: AgentsApi, agents: list[AgentAddress], wanted: list[str]
) -> Callable[[], Awaitable[bool]]:
    async def hold() -> bool:
        held = await ask_all(agents, api.keyring)
        return all(keys == wanted for keys in held.values())

    return hold
