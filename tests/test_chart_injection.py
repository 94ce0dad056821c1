"""The sidecar webhook as the chart installs it: who is asked about which pods, and what the operator may do for it."""

from __future__ import annotations

import yaml
from charts import generate

from gossipswarm_operator.injection.uninjected import SYSTEM
from rendered_chart import needs_helm, objects, of_kind, only, refusal

WEBHOOK = "MutatingWebhookConfiguration"
CERT_MANAGER = {"injection": {"certManager": {"enabled": True}}}


def environment(found) -> dict[str, str]:
    (container,) = only(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {
        each["name"].removeprefix("GOSSIPSWARM_OPERATOR_"): each["value"]
        for each in container["env"]
        if "value" in each
    }


def selects(hook, labels: dict[str, str], namespace: str) -> bool:
    """Whether the API server asks about a pod with these labels, as it evaluates selectors."""

    def holds(selector, present) -> bool:
        for each in selector["matchExpressions"]:
            value = present.get(each["key"])
            if each["operator"] == "Exists" and value is None:
                return False
            if each["operator"] == "In" and value not in each["values"]:
                return False
            if each["operator"] == "NotIn" and value in each["values"]:
                return False
        return True

    place = {"kubernetes.io/metadata.name": namespace}
    return holds(hook["objectSelector"], labels) and holds(hook["namespaceSelector"], place)


@needs_helm
def test_pods_that_ask_are_asked_about_and_no_others():
    (hook,) = only(objects(), WEBHOOK)["webhooks"]
    asks = {"gossipswarm.io/inject": "demo"}
    assert selects(hook, asks, "team-a")
    assert not selects(hook, {"app": "web"}, "team-a")
    assert not selects(hook, {"gossipswarm.io/inject": "false"}, "team-a")
    for system in SYSTEM:  # where nobody is told that there is no sidecar
        assert not selects(hook, asks, system)


@needs_helm
def test_whatever_becomes_of_the_webhook_pods_are_made():
    (hook,) = only(objects(), WEBHOOK)["webhooks"]
    assert (hook["failurePolicy"], hook["sideEffects"]) == ("Ignore", "None")
    assert (hook["reinvocationPolicy"], hook["timeoutSeconds"]) == ("IfNeeded", 5)
    assert hook["rules"][0]["operations"] == ["CREATE"]


@needs_helm
def test_the_service_leads_to_where_every_replica_listens_and_is_called_as_its_certificate_says():
    found = objects()
    (hook,) = only(found, WEBHOOK)["webhooks"]
    told = environment(found)
    service = only(found, "Service")
    called = hook["clientConfig"]["service"]
    assert called["name"] == service["metadata"]["name"]
    assert told["WEBHOOK_HOST"] == f"{called['name']}.{called['namespace']}.svc"
    assert told["WEBHOOK_CONFIGURATION"] == only(found, WEBHOOK)["metadata"]["name"]
    (port,) = [each for each in service["spec"]["ports"] if each["port"] == called["port"]]
    (container,) = only(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert str(ports[port["targetPort"]]) == told["WEBHOOK_PORT"]


@needs_helm
def test_the_operator_may_touch_its_one_secret_and_its_one_configuration():
    found = objects(release="blue", namespace="system")
    name = "blue-gossipswarm-operator"
    secret = only(found, "Secret")["metadata"]
    assert (secret["name"], secret["namespace"]) == (f"{name}-webhook", "system")
    assert environment(found)["WEBHOOK_SECRET"] == secret["name"]
    (rule,) = only(found, "Role", f"{name}-webhook")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == ([secret["name"]], ["get", "patch"])
    (rule,) = only(found, "ClusterRole", f"{name}-webhook")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == ([name], ["get", "patch"])


@needs_helm
def test_an_operator_of_some_namespaces_has_a_webhook_only_if_that_is_asked_for():
    some = {"watchNamespaces": ["team-a"]}
    without = objects(some)
    assert not of_kind(without, WEBHOOK) + of_kind(without, "Secret")
    assert not any(name.startswith("WEBHOOK") for name in environment(without))
    (hook,) = only(objects({**some, "injection": {"mode": "Enabled"}}), WEBHOOK)["webhooks"]
    asks = {"gossipswarm.io/inject": "demo"}
    assert selects(hook, asks, "team-a")
    assert not selects(hook, asks, "team-b")
    assert not of_kind(objects({"injection": {"mode": "Disabled"}}), WEBHOOK)


@needs_helm
def test_with_cert_manager_the_operator_reads_the_certificate_and_no_more():
    found = objects(CERT_MANAGER)
    certificate = only(found, "Certificate", "gossipswarm-operator-webhook")
    secret = environment(found)["WEBHOOK_SECRET"]
    assert certificate["spec"]["secretName"] == secret
    assert certificate["spec"]["dnsNames"] == ["gossipswarm-operator.gossipswarm-system.svc"]
    injected = only(found, WEBHOOK)["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert injected == f"gossipswarm-system/{certificate['metadata']['name']}"
    assert "WEBHOOK_CONFIGURATION" not in environment(found)
    assert not of_kind(found, "Secret")
    (rule,) = only(found, "Role", "gossipswarm-operator-webhook")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == ([secret], ["get"])
    names = {each["metadata"]["name"] for each in of_kind(found, "ClusterRole")}
    assert "gossipswarm-operator-webhook" not in names


@needs_helm
def test_what_cert_manager_renews_is_signed_by_the_authority_that_is_trusted_already():
    found = objects(CERT_MANAGER)
    certificate = only(found, "Certificate", "gossipswarm-operator-webhook")
    issuer = only(found, "Issuer", certificate["spec"]["issuerRef"]["name"])
    (authority,) = [each for each in of_kind(found, "Certificate") if each != certificate]
    assert issuer["spec"] == {"ca": {"secretName": authority["spec"]["secretName"]}}
    assert authority["spec"]["isCA"]
    assert authority["spec"]["commonName"], "an authority without a name breaks RFC 5280"
    assert authority["spec"]["privateKey"]["rotationPolicy"] == "Never", "what it signed stays good"
    root = only(found, "Issuer", authority["spec"]["issuerRef"]["name"])
    assert root["spec"] == {"selfSigned": {}}


@needs_helm
def test_who_makes_the_certificate_can_change_though_the_secret_of_cert_manager_is_not_helms():
    certificates = of_kind(objects(CERT_MANAGER), "Certificate")
    left_behind = {each["spec"]["secretName"] for each in certificates}
    assert only(objects(), "Secret")["metadata"]["name"] not in left_behind


@needs_helm
def test_an_issuer_of_ones_own_is_taken():
    issuer = {"name": "company", "kind": "ClusterIssuer"}
    found = objects({"injection": {"certManager": {"enabled": True, "issuerRef": issuer}}})
    assert only(found, "Certificate")["spec"]["issuerRef"] == issuer
    assert not of_kind(found, "Issuer")


@needs_helm
def test_a_mode_that_does_not_exist_is_refused():
    assert "mode" in refusal({"injection": {"mode": "On"}})


@needs_helm
def test_plain_manifests_have_the_webhook_too():
    documents = yaml.safe_load_all(generate.plain_manifests())
    assert WEBHOOK in {each["kind"] for each in documents}
