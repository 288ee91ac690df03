"""The OpenAPI 3.1 document of the routes over HTTP. WebSockets are described in docs/serve.md."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

Schema = dict[str, Any]
JSON, OCTETS, PROBLEM = "application/json", "application/octet-stream", "application/problem+json"
ID_PATTERN = "^[A-Za-z0-9_.:-]{1,64}$"
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
ANY_OBJECT: Schema = {"type": "object"}
REFUSALS = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "This is not allowed",
    404: "There is no such model or session",
    409: "The session exists, is in use, or has read another number of items",
    413: "Too large",
    415: "The content type is not supported",
    422: "The input or the state cannot be used",
    429: "Too many requests or sessions",
    503: "Not ready, shutting down, or the store cannot be reached",
    504: "The deadline has passed",
    507: "The store is full",
}


def openapi() -> Schema:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "memorycell",
            "version": version("memorycell"),
            "description": "Live sessions of recurrent models. Refusals are problems (RFC 9457).",
        },
        "paths": {**_server_paths(), **_model_paths(), **_session_paths(), **_inference_paths()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"bearer": []}],
    }


def _server_paths() -> Schema:
    text = {200: ("Prometheus metrics", {"text/plain": TEXT})}
    return {
        "/healthz": {"get": _operation("Whether the process answers", _json_answer(ANY_OBJECT))},
        "/readyz": {"get": _operation("Whether the models are loaded", _json_answer(ANY_OBJECT))},
        "/metrics": {"get": _operation("Metrics", text)},
    }


def _model_paths() -> Schema:
    models = _object({"models": {"type": "array", "items": _ref("Model")}})
    name = [_path("model", "^[A-Za-z0-9_.-]{1,64}$")]
    file_content = {"anyOf": [TEXT, _object({"base64": TEXT})]}
    prediction = _object(
        {
            "input": {"type": ["string", "null"]},
            "content": file_content,
            "name": TEXT,
            "options": ANY_OBJECT,
        },
        required=(),
    )
    number = _query("version", {"type": "integer", "minimum": 1, "maximum": 2**31})
    zipped = {200: ("A zip file", {"application/zip": TEXT})}
    to = {"name": "format", "in": "path", "required": True, "schema": {"enum": ["onnx", "c"]}}
    base = "/v1/models/{model}"
    return {
        "/v1/models": {"get": _operation("The models", _json_answer(models))},
        base: {
            "parameters": name,
            "get": _operation("A model", _json_answer(_ref("Model")), parameters=[number]),
        },
        f"{base}/predict": {
            "parameters": name,
            "post": _operation(
                "A prediction", _json_answer(ANY_OBJECT), body={JSON: prediction}, optional=True
            ),
        },
        f"{base}/inspection": {
            "parameters": name,
            "get": _operation("The same for the model's own data", _json_answer(ANY_OBJECT)),
            "post": _operation(
                "What the units do while the model reads an input, or its own data",
                _json_answer(ANY_OBJECT),
                body={JSON: prediction},
                optional=True,
            ),
        },
        f"{base}/exports/{{format}}": {
            "parameters": [*name, to],
            "get": _operation("The model as ONNX or C99", zipped),
        },
        f"{base}/reload": {
            "parameters": name,
            "post": _operation("Read the file again", _json_answer(_ref("Model"))),
        },
        "/v1/inspect": {
            "post": _operation(
                "What a model file says of itself; it is not stored",
                _json_answer(ANY_OBJECT),
                body={OCTETS: TEXT},
            )
        },
    }


def _session_paths() -> Schema:
    names = [_path("model", "^[A-Za-z0-9_.-]{1,64}$")]
    one = [*names, _path("id", ID_PATTERN)]
    base = "/v1/models/{model}/sessions"
    page = _object(
        {
            "sessions": {"type": "array", "items": _ref("SessionInList")},
            "next": {"type": ["string", "null"]},
        }
    )
    created = {201: ("The session", {JSON: _ref("Session")})}
    session = _json_answer(_ref("Session"))
    answer = _json_answer(_ref("Answer"))
    state = {200: ("A snapshot", {OCTETS: TEXT})}
    limits = {"type": "integer", "minimum": 1, "maximum": 1000}
    step_options = [
        _query("items", {"enum": ["many"]}),
        _query("watch", {"enum": ["0", "1"]}),
        _query("after", {"type": "integer", "minimum": 0, "maximum": 2**53}),
        _query("deadline_ms", {"type": "number", "exclusiveMinimum": 0, "maximum": 3.6e6}),
    ]
    item: Schema = {
        "description": "A line of text, a row, {base64}, or the inputs of a step of tensors; with"
        " items=many a list of them",
        "type": ["string", "object", "array"],
    }
    rewound = _object({"items": COUNT})
    opening = {JSON: _ref("Opening")}
    return {
        base: {
            "parameters": names,
            "get": _operation(
                "Open sessions",
                _json_answer(page),
                parameters=[
                    _query("limit", limits),
                    _query("cursor", TEXT),
                ],
            ),
            "post": _operation("Open a session", created, body=opening, optional=True),
        },
        f"{base}/{{id}}": {
            "parameters": one,
            "get": _operation("A session", session),
            "delete": _operation("Close a session", {204: ("Closed", {})}),
        },
        f"{base}/{{id}}/step": {
            "parameters": one,
            "post": _operation(
                "Read an item", answer, body={JSON: item, OCTETS: TEXT}, parameters=step_options
            ),
        },
        f"{base}/{{id}}/end": {"parameters": one, "post": _operation("End the input", answer)},
        f"{base}/{{id}}/fork": {
            "parameters": one,
            "post": _operation(
                "A session with a copy of the state", created, body=opening, optional=True
            ),
        },
        f"{base}/{{id}}/rewind": {
            "parameters": one,
            "post": _operation("Undo the last items", session, body={JSON: rewound}),
        },
        f"{base}/{{id}}/state": {
            "parameters": one,
            "get": _operation("The state", state),
            "put": _operation("Set the state", session, body={OCTETS: TEXT}),
        },
    }


def _inference_paths() -> Schema:
    """The Open Inference Protocol; see `server.oip`."""
    name = [_path("model", "^[A-Za-z0-9_.-]{1,64}$")]
    versioned = [*name, _path("version", "^[0-9]{1,9}$")]
    inferred = _operation(
        "Steps of a sequence",
        {200: ("The outputs", {JSON: ANY_OBJECT, OCTETS: TEXT})},
        body={JSON: _ref("InferRequest"), OCTETS: TEXT},
    )
    paths: Schema = {
        "/v2": {"get": _operation("The server", _json_answer(ANY_OBJECT))},
        "/v2/health/live": {"get": _operation("Live", _json_answer(ANY_OBJECT))},
        "/v2/health/ready": {"get": _operation("Ready", _json_answer(ANY_OBJECT))},
    }
    for base, parameters in (
        ("/v2/models/{model}", name),
        ("/v2/models/{model}/versions/{version}", versioned),
    ):
        described = _operation("Inputs and outputs", _json_answer(ANY_OBJECT))
        ready = _operation("Whether a model is ready", _json_answer(ANY_OBJECT))
        paths[base] = {"parameters": parameters, "get": described}
        paths[f"{base}/ready"] = {"parameters": parameters, "get": ready}
        paths[f"{base}/infer"] = {"parameters": parameters, "post": inferred}
    return paths


def _schemas() -> Schema:
    choices = {
        "input": ["items", "tensors", None],
        "precision": ["float32", "bfloat16", "int8"],
        "durable": ["none", "step", "interval"],
    }
    opening = {
        "id": {"type": ["string", "null"], "pattern": ID_PATTERN},
        **{key: {"enum": values} for key, values in choices.items()},
        "ttl_s": {"type": ["number", "null"], "minimum": 0, "maximum": 1e9},
        "history": {"type": "integer", "minimum": 0, "maximum": 5000},
        "options": ANY_OBJECT,
        "state": {"type": ["string", "null"], "contentEncoding": "base64"},
    }
    session = {
        "id": TEXT,
        "model": TEXT,
        "version": COUNT,
        "input": {"enum": ["items", "tensors"]},
        "precision": {"enum": choices["precision"]},
        "durable": {"enum": choices["durable"]},
        "steps": COUNT,
        "history": COUNT,
        "ttl_s": NUMBER,
        "idle_s": NUMBER,
        "resident": {"type": "boolean"},
        "attached": {"type": "boolean"},
    }
    model = {
        "name": TEXT,
        "version": COUNT,
        "task": TEXT,
        "status": TEXT,
        "live": {"type": "boolean"},
    }
    tensor = _object(
        {
            "name": TEXT,
            "shape": {"type": "array", "items": COUNT},
            "datatype": TEXT,
            "data": {"type": "array"},
            "parameters": ANY_OBJECT,
        },
        required=("name", "shape", "datatype"),
    )
    return {
        "Problem": _object({"type": TEXT, "title": TEXT, "status": COUNT, "detail": TEXT}),
        "Model": _object(model),
        "Session": _object(session),
        "SessionInList": _object({"id": TEXT, "model": TEXT, "resident": {"type": "boolean"}}),
        "Opening": {**_object(opening, required=()), "additionalProperties": False},
        "Answer": _object(
            {"answers": {}, "y": {}, "steps": COUNT, "gates": ANY_OBJECT}, required=("steps",)
        ),
        "InferRequest": _object(
            {
                "id": TEXT,
                "parameters": ANY_OBJECT,
                "inputs": {"type": "array", "items": tensor, "minItems": 1},
                "outputs": {"type": "array", "items": _object({"name": TEXT})},
            },
            required=("inputs",),
        ),
    }


# ---- parts of a document -------------------------------------------------------------------------


def _object(properties: Schema, required: tuple[str, ...] | None = None) -> Schema:
    names = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "required": names}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _path(name: str, pattern: str) -> Schema:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "schema": schema}


def _json_answer(schema: Schema) -> dict[int, tuple[str, Schema]]:
    return {200: ("Success", {JSON: schema})}


def _operation(
    summary: str,
    answers: dict[int, tuple[str, Schema]],
    *,
    body: Schema | None = None,
    optional: bool = False,
    parameters: list[Schema] | None = None,
) -> Schema:
    """An operation; any may be refused with a problem."""
    responses: Schema = {
        str(status): {
            "description": text,
            **(
                {"content": {kind: {"schema": s} for kind, s in schemas.items()}} if schemas else {}
            ),
        }
        for status, (text, schemas) in answers.items()
    }
    for status, text in REFUSALS.items():
        content = {PROBLEM: {"schema": _ref("Problem")}}
        responses[str(status)] = {"description": text, "content": content}
    operation: Schema = {"summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {
            "required": not optional,
            "content": {kind: {"schema": schema} for kind, schema in body.items()},
        }
    if parameters:
        operation["parameters"] = parameters
    return operation
