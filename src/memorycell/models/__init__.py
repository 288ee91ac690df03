"""What is trained and kept in a model file: an encoder, a recurrent stack, a head. One kind of
model a file.
"""

from memorycell.applications.anomaly.model import Detector
from memorycell.applications.drawing.model import Writer
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.music.model import Composer
from memorycell.applications.translation.model import Translator
from memorycell.language.model import LanguageModel
from memorycell.models.classifier import Classifier
from memorycell.models.model import Model
from memorycell.signals.transcriber import Transcriber

MODELS: dict[str, type[Model]] = {
    model.kind: model
    for model in (
        Forecaster,
        LanguageModel,
        Classifier,
        Translator,
        Transcriber,
        Writer,
        Composer,
        Detector,
    )
}
"""The name in a model file -> the class."""
