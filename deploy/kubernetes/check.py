#!/usr/bin/python3
"""Checks the manifests beside it: every field is one that its kind has, labels and names meet, the keys of the
ConfigMap are keys of the programs. check.py [--bin DIRECTORY]; no cluster is needed, and none is asked."""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent

# Fields of the kinds that are used here, as far as they are used: a typing error is not among them.
# A string names another entry, [x] is a list of x, {} anything, a type that type.
QUANTITIES = {"cpu": str, "memory": str}
LABELS = {"matchLabels": {}}
KINDS = {
    "Namespace": {"metadata": {"name": str}},
    "Secret": {"metadata": "meta", "type": str, "stringData": {}},
    "ConfigMap": {"metadata": "meta", "data": {}},
    "Service": {"metadata": "meta", "spec": {"selector": {}, "ports": [{"name": str, "port": int, "targetPort": (str, int)}]}},
    "PodDisruptionBudget": {"metadata": "meta", "spec": {"minAvailable": int, "selector": LABELS}},
    "NetworkPolicy": {"metadata": "meta", "spec": {
        "podSelector": LABELS, "policyTypes": [str],
        "ingress": [{"from": [{"ipBlock": {"cidr": str}}], "ports": [{"protocol": str, "port": int}]}],
        "egress": [{"ports": [{"protocol": str, "port": int}]}]}},
    "Deployment": {"metadata": "meta", "spec": {
        "replicas": int, "strategy": {"type": str, "rollingUpdate": {"maxSurge": int, "maxUnavailable": int}},
        "selector": LABELS, "template": "pod"}},
    "DaemonSet": {"metadata": "meta", "spec": {"updateStrategy": {"type": str}, "selector": LABELS, "template": "pod"}},
    "meta": {"name": str, "namespace": str},
    "pod": {"metadata": {"labels": {}}, "spec": {
        "enableServiceLinks": bool, "terminationGracePeriodSeconds": int, "hostNetwork": bool, "hostIPC": bool, "dnsPolicy": str,
        "priorityClassName": str, "nodeSelector": {}, "tolerations": [{"key": str, "operator": str, "effect": str}],
        "securityContext": {"runAsNonRoot": bool, "runAsUser": int, "runAsGroup": int, "fsGroup": int, "seccompProfile": {"type": str}},
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": int, "podAffinityTerm": {"topologyKey": str, "labelSelector": LABELS}}]}},
        "initContainers": ["container"], "containers": ["container"],
        "volumes": [{"name": str, "emptyDir": {"medium": str}, "secret": {"secretName": str, "defaultMode": int},
                     "configMap": {"name": str}, "hostPath": {"path": str, "type": str}}]}},
    "container": {
        "name": str, "image": str, "command": [str], "args": [str],
        "env": [{"name": str, "value": str, "valueFrom": {"fieldRef": {"fieldPath": str}}}],
        "ports": [{"name": str, "containerPort": int}],
        "startupProbe": "probe", "livenessProbe": "probe", "readinessProbe": "probe",
        "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
        "securityContext": {"privileged": bool, "allowPrivilegeEscalation": bool, "readOnlyRootFilesystem": bool,
                            "capabilities": {"drop": [str]}},
        "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}]},
    "probe": {"httpGet": {"path": str, "port": (str, int)}, "periodSeconds": int, "timeoutSeconds": int, "failureThreshold": int},
}
API = {"Namespace": "v1", "Secret": "v1", "ConfigMap": "v1", "Service": "v1", "PodDisruptionBudget": "policy/v1",
       "NetworkPolicy": "networking.k8s.io/v1", "Deployment": "apps/v1", "DaemonSet": "apps/v1"}


def look(value, shape, where, problems):
    if isinstance(shape, str):
        shape = KINDS[shape]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            problems.append(f"{where}: must have fields")
        elif shape:
            for key, inner in value.items():
                if key not in shape:
                    problems.append(f"{where}.{key}: no such field")
                else:
                    look(inner, shape[key], f"{where}.{key}", problems)
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            problems.append(f"{where}: must be a list")
        else:
            for i, item in enumerate(value):
                look(item, shape[0], f"{where}[{i}]", problems)
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        problems.append(f"{where}: {value!r} is of another type")


def meet(objects, problems):
    """What one object says of another."""
    names = {(o["kind"], o["metadata"]["name"]) for o in objects}
    pods = {o["metadata"]["name"]: o["spec"]["template"] for o in objects if "template" in o.get("spec", {})}
    labels = [p["metadata"]["labels"] for p in pods.values()]
    for o in objects:
        spec, where = o.get("spec", {}), f"{o['kind']} {o['metadata']['name']}"
        wanted = spec.get("selector") or spec.get("podSelector") or {}
        wanted = wanted.get("matchLabels", wanted)
        if wanted and not any(wanted.items() <= have.items() for have in labels):
            problems.append(f"{where}: no pod has the labels {wanted}")
        if "template" in spec and not wanted.items() <= spec["template"]["metadata"]["labels"].items():
            problems.append(f"{where}: does not select its own pods")
    for name, template in pods.items():
        spec = template["spec"]
        volumes = {v["name"]: v for v in spec["volumes"]}
        for v in volumes.values():
            for kind, key, field in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
                if key in v and (kind, v[key][field]) not in names:
                    problems.append(f"{name}: volume {v['name']} is of a {kind} that is not here")
        for c in spec.get("initContainers", []) + spec["containers"]:
            ports = {p["name"] for p in c.get("ports", [])}
            for mount in c.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    problems.append(f"{name}/{c['name']}: no volume {mount['name']}")
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in c and c[probe]["httpGet"]["port"] not in ports:
                    problems.append(f"{name}/{c['name']}: {probe} at a port that has no such name")
        if not all(c.get("resources", {}).get("requests") for c in spec["containers"]):
            problems.append(f"{name}: requests nothing, and is the first to be evicted")


def known_keys(binaries, program):
    page = subprocess.run([f"{binaries}/{program}", "--print-config"], capture_output=True, text=True, timeout=60, check=True).stdout
    return set(re.findall(r"^(?:# )?([a-z][a-z0-9-]*) =", page, re.M))


def configured(objects, binaries, problems):
    data = next(o for o in objects if o["kind"] == "ConfigMap")["data"]
    variables = [e["name"] for o in objects if "template" in o.get("spec", {})
                 for c in o["spec"]["template"]["spec"]["containers"] for e in c.get("env", [])]
    for program in ("scheduler", "worker"):
        keys = known_keys(binaries, f"tutti-{program}")
        prefix = f"TUTTI_{program.upper()}_"
        for variable in variables:
            if variable.startswith(prefix) and variable[len(prefix):].lower().replace("_", "-") not in keys:
                problems.append(f"{variable}: tutti-{program} has no such flag")
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(data[f"{program}.toml"] + "\n")
            file.flush()
            got = subprocess.run([f"{binaries}/tutti-{program}", "--config", file.name, "--print-config"], capture_output=True,
                                 text=True, timeout=60)
            if got.returncode != 0:
                problems.append(f"{program}.toml: {got.stderr.strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin")
    o = parser.parse_args()
    problems, objects = [], []
    for file in sorted(HERE.glob("*.yaml")):
        for thing in yaml.safe_load_all(file.read_text()):
            kind = thing.pop("kind", None)
            if kind not in API or thing.pop("apiVersion", None) != API[kind]:
                problems.append(f"{file.name}: kind {kind} with its apiVersion is not known")
                continue
            look(thing, KINDS[kind], f"{file.name}: {kind}", problems)
            objects.append({"kind": kind, **thing})
    if not problems:
        meet(objects, problems)
    if not problems and o.bin:
        configured(objects, o.bin, problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(objects)} objects, {len(problems)} problems")
    sys.exit(1 if problems else 0)


main()
