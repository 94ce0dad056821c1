"""gossipctl install."""

from __future__ import annotations

from gossipctl.command import Command, Invocation
from gossipctl.failures import UsageError
from gossipctl.parser import Parser, names


def _arguments(parser: Parser) -> None:
    parser.flag(
        "--swarm-namespaces",
        type=names,
        metavar="A,B,...",
        help="namespaces in which the operator may keep the Secrets of swarms (default: default)",
    )
    parser.flag("--operator-image", metavar="IMAGE", help="image of the operator")
    parser.flag("--agent-image", metavar="IMAGE", help="image of agents whose swarm names none")
    parser.switch("--crds-only", help="only the definitions of the kinds")


def _install(invocation: Invocation) -> None:
    from gossipctl.kubernetes import install

    flags = invocation.flags
    if flags.backend == "local":
        raise UsageError("there is nothing to install on this machine")
    text = install.adapted(
        install.manifests(),
        namespace=flags.namespace or install.NAMESPACE,
        swarm_namespaces=flags.swarm_namespaces or (),
        operator_image=flags.operator_image,
        agent_image=flags.agent_image,
        crds_only=flags.crds_only,
    )
    invocation.output.line(text.rstrip("\n"))


COMMANDS = {
    "install": Command(
        _install,
        _arguments,
        """Print the manifests that install GossipSwarm in a cluster: kinds, operator and its rights, for kubectl
        apply. --namespace is the operator's. With Helm, use the chart instead.""",
        (
            "install | kubectl apply --server-side -f -",
            "install --swarm-namespaces prod,staging --operator-image registry.example.com/operator:1.0",
        ),
    )
}
