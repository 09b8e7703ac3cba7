#!/usr/bin/python3
"""Writes spec.md and api.md from api/handlers/openapi.json, and metrics.md from scheduler/model/metric_table.csv. With --check:
says whether they are what it would write."""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = json.loads((HERE / "../../api/handlers/openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
NOTE = "<!-- Written by docs/reference/generate.py from api/handlers/openapi.json. -->\n"


def resolve(schema):
    while "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        schema = {**SCHEMAS.get(name, {}), **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def kind(schema):
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    values = [v for v in schema.get("enum", []) if v is not None]
    if values:
        return " \\| ".join(f"`{v}`" for v in values)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(k for k in map(kind, schema[word]) if k != "null"))
    types = schema.get("type", "any")
    types = [t for t in ([types] if isinstance(types, str) else types) if t != "null"]
    if types == ["array"]:
        return f"list of {kind(schema.get('items', {}))}"
    return " or ".join(types) or "null"


def bounds(schema):
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" ({low} to {high})"
    if low is not None:
        return f" (from {low})"
    return ""


def text(schema):
    return resolve(schema).get("description", "").replace("|", "\\|").replace("\n", " ")


def fields(schema, prefix=""):
    for name, field in resolve(schema).get("properties", {}).items():
        whole = resolve(field)
        yield f"`{prefix}{name}`", kind(whole) + bounds(whole), text(field)
        inner = whole if whole.get("properties") else {}
        if not inner and "array" in str(whole.get("type")):
            inner = resolve(whole.get("items", {}))
            yield from fields(inner, f"{prefix}{name}[].") if inner.get("properties") else ()
        elif inner:
            yield from fields(inner, f"{prefix}{name}.")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def spec_page():
    job = SCHEMAS["JobSpec"]
    return (
        f"# The job spec\n\n{NOTE}\nYAML or JSON, the same tree. {text(job)} A field that does not exist is an error that says which one was "
        f"meant. `tutti plan job.yaml` shows a spec with its defaults and what would become of it.\n\n"
        + table(["Field", "Kind", "Meaning"], fields(job))
    )


def operation(path, method, spec):
    needs = "" if spec.get("security") != [] else " *Open to all.*"
    out = [f"### `{method.upper()} {path}`\n", f"{spec['summary']}.{needs} {spec.get('description', '')}".rstrip() + "\n"]
    parameters = [p for p in spec.get("parameters", []) if p["in"] != "path"]
    if parameters:
        rows = [(f"`{p['name']}`", p["in"], kind(resolve(p["schema"])), p.get("description", "").replace("|", "\\|")) for p in parameters]
        out.append(table(["Parameter", "In", "Kind", "Meaning"], rows))
    body = spec.get("requestBody", {}).get("content", {})
    if body:
        out.append("Body: " + ", ".join(f"{kind(v['schema'])} as `{k}`" for k, v in body.items()) + "\n")
    answers = []
    for status, answer in spec["responses"].items():
        if "$ref" in answer:
            answer = DOCUMENT["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
        content = ", ".join(kind(v.get("schema", {})) if "json" in k else f"`{k}`" for k, v in answer.get("content", {}).items())
        answers.append((status, content, answer.get("description", "").replace("|", "\\|").replace("\n", " ")))
    out.append(table(["Status", "Body", "Meaning"], answers))
    return "\n".join(out)


def api_page():
    out = [
        f"# The API\n\n{NOTE}\n{DOCUMENT['info']['description']} The same as a document for programs: `/openapi.json`; to read in a browser: "
        "`/docs`. `v1` stays what it is: fields and operations are added, never removed or changed; a server takes clients one major "
        "version older and newer and says its own in the header `Tutti-API-Version`. Who may do what: [security](../security.md).\n"
    ]
    for tag in DOCUMENT["tags"]:
        out.append(f"## {tag['name']}\n\n{tag['description']}.\n")
        for path, methods in DOCUMENT["paths"].items():
            for method, spec in methods.items():
                if spec["tags"][0] == tag["name"]:
                    out.append(operation(path, method, spec))
    out.append("## Schemas\n")
    for name, schema in SCHEMAS.items():
        rows = list(fields(schema))
        if name == "JobSpec" or not rows:
            continue
        out.append(f"### {name}\n\n" + (text(schema) + "\n\n" if text(schema) else "") + table(["Field", "Kind", "Meaning"], rows))
    return "\n".join(out)


def metrics_page():
    rows = [line.split(",", 5) for line in (HERE / "../../scheduler/model/metric_table.csv").read_text().splitlines()
            if line and not line.startswith("#")]
    out = [
        "# Metrics\n\n<!-- Written by docs/reference/generate.py from scheduler/model/metric_table.csv. -->\n\n"
        "What `GET /metrics` of a scheduler shows (to everybody with a token), and that of a worker started with `--metrics-listen` (open to all who reach it). Names are stable: "
        "metrics and labels are added, never renamed or taken away within a major version. Base units; counters, and they alone, end in `_total`. "
        "Counters by cause, use and fault begin at 0; those of requests by route and of waits by queue have no sample before something was counted. A standby shows what it has itself; gauges of jobs, queues, nodes and "
        "GPUs come from the leader alone. Set-up, dashboards and alerts: [monitoring](../monitoring.md).\n"
    ]
    for title, programs in (("Of every program", ["both"]), ("Of a scheduler", ["scheduler"]), ("Of a worker", ["worker"])):
        found = [(f"`{n}`", kind, unit, " ".join(f"`{w}`" for w in labels.split()), text.replace("|", "\\|"))
                 for n, program, kind, unit, labels, text in rows if program in programs]
        out.append(f"## {title}\n\n" + table(["Metric", "Type", "Unit", "Labels", "Meaning"], found))
    return "\n".join(out)


def main():
    stale = []
    for name, page in (("spec.md", spec_page()), ("api.md", api_page()), ("metrics.md", metrics_page())):
        path = HERE / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != page:
                stale.append(name)
        else:
            path.write_text(page)
    if stale:
        print(f"docs/reference/{', '.join(stale)} do not say what openapi.json and metric_table.csv say: run docs/reference/generate.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
