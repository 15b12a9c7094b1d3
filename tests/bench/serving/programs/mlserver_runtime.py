"""An onnxruntime runtime for MLServer, which has none of its own: as its documentation shows custom runtimes."""

# mypy: disable-error-code="import-not-found,misc"
# MLServer is in an environment of its own.
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnxruntime import InferenceSession, SessionOptions


class OnnxRuntime(MLModel):
    """INPUT to OUTPUT, one thread, as the others."""

    async def load(self) -> bool:
        """Open the session of the file that model-settings.json names."""
        options = SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        file = self.settings.parameters.uri
        self.session = InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One run for each request, or for each batch that MLServer's adaptive batching made."""
        tensor = NumpyCodec.decode_input(payload.inputs[0])
        (answer,) = self.session.run(["OUTPUT"], {"INPUT": tensor})
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("OUTPUT", answer)],
        )
