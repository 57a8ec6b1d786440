"""The parts put together: the Flask application behind the gateway."""

from __future__ import annotations

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from tools.simulator import pages
from tools.simulator.authorization import authorization_routes
from tools.simulator.company import company_routes
from tools.simulator.control import control_routes
from tools.simulator.messengers import messenger_routes
from tools.simulator.state import State
from tools.simulator.tokens import FlowAccountServer, forbidden, token_routes


def create_application(state: State) -> Flask:
    """The application that serves *state*."""
    app = Flask("tools.simulator", static_url_path="/assets", static_folder="assets", template_folder="templates")
    app.add_template_filter(pages.phrases)
    # In the order in which FlowAccount's page lists them, not by the alphabet.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    server = FlowAccountServer(state)
    app.register_blueprint(control_routes(state))
    app.register_blueprint(authorization_routes(state, server))
    app.register_blueprint(token_routes(state, server))
    app.register_blueprint(company_routes(state))
    app.register_blueprint(messenger_routes(state))

    @app.errorhandler(HTTPException)
    def unknown(error: HTTPException) -> Response:
        """A wrong path or method ends at the gateway, which knows one answer; other errors keep their own."""
        return forbidden() if error.code in (404, 405) else error.get_response()

    return app
