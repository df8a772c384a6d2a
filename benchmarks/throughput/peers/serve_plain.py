"""A plain handler: FastAPI and one ONNX Runtime session, a picture at a time."""

import uvicorn
from fastapi import FastAPI, UploadFile
from peer_model import PORT, Model, prepare

app = FastAPI()
model = Model()


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, float]:
    """Run in FastAPI's thread pool, as its documentation advises for work that blocks."""
    return {"score": model.scores([prepare(file.file.read())])[0]}


if __name__ == "__main__":
    uvicorn.run(app, port=PORT, log_level="warning")
