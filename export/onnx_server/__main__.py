"""python -m onnx_server RUN: check the artifact, load it, and serve it until SIGTERM."""

import sys

import uvicorn

from .adapters import load
from .app import create_app
from .connections import patient_for
from .errors import StartError
from .settings import Settings


def main(arguments=None):
    """Serve; returns when every request in progress at SIGTERM has its answer."""
    settings = Settings.parse(arguments)
    try:
        model = load(settings)
    except StartError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    app = create_app(model, settings)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=patient_for(settings.read_timeout_s, app.state.metrics.invalid),
        ws="none",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.read_timeout_s + settings.answer_timeout_s) + 5,
    )


if __name__ == "__main__":
    main()
