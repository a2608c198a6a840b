"""What other servers answer, from tests/clients/recordings: see the README there."""

import json
from pathlib import Path

import httpx2

FOLDER = Path(__file__).parent.parent / "clients" / "recordings"
KINDS = ("edgebrush", "vllm-omni", "sglang", "sd.cpp", "localai", "openai")


def names_of(kind):
    return sorted(path.stem for path in (FOLDER / kind).glob("*.json"))


def recording(kind, name):
    """The status, the body (bytes) and the headers of an answer."""
    content = json.loads((FOLDER / kind / f"{name}.json").read_text())
    body = "\n".join(content["text"]) + "\n" if "text" in content else json.dumps(content["body"])
    return content["status"], body.encode(), content.get("headers", {})


def response(kind, name):
    """An answer as httpx2 has it, and its body."""
    status, body, headers = recording(kind, name)
    return httpx2.Response(status, headers=headers, content=body), body
