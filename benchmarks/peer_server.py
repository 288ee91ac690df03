"""The service that `memorycell serve` is compared with, written the usual way: FastAPI and ONNX
Runtime, the states of the sessions in a dictionary, one call of the model per message.

    python benchmarks/peer_server.py MODEL.onnx --port PORT [--ws websockets-sansio]

MODEL.onnx has the inputs x [1, 1, I], h and c [1, 1, H] and the outputs y, h_n, c_n, as
`memorycell export --to onnx` writes it.

    POST /sessions                -> {"id": 7}
    POST /sessions/7/step         {"x": [...]} -> {"y": [...]}
    DELETE /sessions/7
    WebSocket /ws                 uint32 session, float32 x [I] -> uint32 session, float32 y [H];
                                  a new session number opens a session

It is given the fastest transport that uvicorn has (sans-IO WebSockets without compression), so that
a comparison shows the difference in the service, not in its libraries.
"""

import argparse
import itertools

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

HEADER_BYTES = 4


class Step(BaseModel):
    """One time step, x [I]."""

    x: list[float]


def build(path: str) -> FastAPI:
    limits = onnxruntime.SessionOptions()
    limits.intra_op_num_threads = limits.inter_op_num_threads = 1
    model = onnxruntime.InferenceSession(path, limits, providers=["CPUExecutionProvider"])
    input_size = model.get_inputs()[0].shape[2]
    zeros = np.zeros((1, 1, model.get_inputs()[1].shape[2]), np.float32)
    states: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    numbers = itertools.count(1 << 24)
    app = FastAPI()

    def step(session: int, x: np.ndarray) -> np.ndarray:
        h, c = states.get(session, (zeros, zeros))
        y, h, c = model.run(None, {"x": x.reshape(1, 1, input_size), "h": h, "c": c})
        states[session] = h, c
        return y

    @app.post("/sessions")
    async def open_session() -> dict[str, int]:
        session = next(numbers)
        states[session] = zeros, zeros
        return {"id": session}

    @app.post("/sessions/{session}/step")
    async def step_session(session: int, body: Step) -> dict[str, list[float]]:
        if session not in states:
            raise HTTPException(404, "no such session")
        if len(body.x) != input_size:
            raise HTTPException(422, f"x: expected {input_size} numbers")
        return {"y": step(session, np.array(body.x, np.float32)).ravel().tolist()}

    @app.delete("/sessions/{session}")
    async def close_session(session: int) -> dict[str, int]:
        states.pop(session, None)
        return {"id": session}

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                frame = await websocket.receive_bytes()
                session = int.from_bytes(frame[:HEADER_BYTES], "little")
                y = step(session, np.frombuffer(frame, np.float32, offset=HEADER_BYTES))
                await websocket.send_bytes(frame[:HEADER_BYTES] + y.tobytes())
        except WebSocketDisconnect:
            pass

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        """The transport's own cost."""
        await websocket.accept()
        try:
            while True:
                await websocket.send_bytes(await websocket.receive_bytes())
        except WebSocketDisconnect:
            pass

    return app


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--ws", default="websockets-sansio")
    options = parser.parse_args()
    uvicorn.run(
        build(options.model),
        host="127.0.0.1",
        port=options.port,
        ws=options.ws,
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
