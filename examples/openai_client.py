"""OpenAI's Python client with a base station or an agent: images, a stream, files, and what went wrong.

Start `edgebrush serve`, then: python examples/openai_client.py http://127.0.0.1:8000 sneaker
"""

import base64
import sys
from pathlib import Path

import openai


def main(address: str, prompt: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none")
    print("models:", ", ".join(model.id for model in client.models.list()))

    reply = client.images.generate(prompt=prompt, n=2, size="1024x1024", quality="high", output_format="webp")
    for number, image in enumerate(reply.data):
        Path(f"image-{number}.webp").write_bytes(base64.b64decode(image.b64_json))
    print(f"{len(reply.data)} images of {reply.size} by {reply.served_by}; without effect: {', '.join(reply.ignored)}")

    for event in client.images.generate(prompt=prompt, stream=True, partial_images=2):
        print(event.type, f"{len(event.b64_json)} characters")

    reply = client.images.generate(prompt=prompt, response_format="url")
    print("for an hour:", reply.data[0].url)

    try:
        client.images.generate(prompt=prompt, background="transparent")
    except openai.BadRequestError as error:
        print(f"{error.param}: {error.message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
