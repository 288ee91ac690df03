"""One file an application; `TASKS` lists them. A task is a value that composes the parts: it has no
loop and no layer.
"""

from memorycell.application.contract import Task
from memorycell.applications.anomaly.dataset import ANOMALY
from memorycell.applications.chat.dataset import CHAT
from memorycell.applications.drawing.dataset import DRAWING
from memorycell.applications.forecast.dataset import FORECAST
from memorycell.applications.handwriting.dataset import HANDWRITING
from memorycell.applications.music.dataset import MUSIC
from memorycell.applications.sentiment.dataset import SENTIMENT
from memorycell.applications.speech.dataset import SPEECH
from memorycell.applications.text.dataset import TEXT
from memorycell.applications.translation.dataset import TRANSLATION

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        FORECAST,
        TEXT,
        SENTIMENT,
        TRANSLATION,
        CHAT,
        SPEECH,
        HANDWRITING,
        DRAWING,
        MUSIC,
        ANOMALY,
    )
}
