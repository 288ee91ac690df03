"""Control: policies that remember what an observation does not show."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.search_space import Choice, Uniform
from memorycell.applications.control.baselines import TRAINING
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.exporters import EXPORTERS
from memorycell.applications.control.figures import episode_gif
from memorycell.applications.control.inspection import inspect
from memorycell.applications.control.model import RecurrentPolicy
from memorycell.applications.control.picture import control_picture
from memorycell.applications.control.predict import (
    PredictOptions,
    action_columns,
    predict,
    render,
)
from memorycell.applications.control.prepare import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.control.public_data import DATASETS
from memorycell.applications.control.session import ControlSession
from memorycell.applications.control.settings import ControlSettings

APPLICATION = Application(
    name="control",
    summary="Learns policies with memory, from an environment or from logged trajectories; live, an"
    " observation in, an action out",
    reads="the name of a gymnasium environment; or logged trajectories: a table with a column that"
    " names the episode of each row, and columns of observations and actions (CSV, Parquet, JSON"
    " lines), or an .npz with observations, actions and terminals",
    in_memory="episodes",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("return", higher_is_better=True),
    selection_metric="cost",
    baselines=(
        "random actions, or the most frequent one",
        "a policy without memory of the same size",
        "the same with the last 4 observations",
    ),
    training=TRAINING,
    minutes=3.0,
    settings=ControlSettings,
    search_space={
        "lr": Uniform(2.5e-4, 4e-3, log=True),
        "hidden": Choice([32, 64, 128]),
        "passes": Choice([2, 4, 8]),
        "entropy": Uniform(0.0, 0.02),
        "trace": Uniform(0.9, 0.99),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={RecurrentPolicy.kind: RecurrentPolicy},
    codecs={ControlCodec.kind: ControlCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=ControlSession,
    columns=action_columns,
    figures={".gif": episode_gif},
    picture=control_picture,
    inspect=inspect,
    exporters=EXPORTERS,
)
