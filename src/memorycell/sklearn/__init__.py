"""Estimators with scikit-learn's conventions: for Pipeline, GridSearchCV and TimeSeriesSplit.

    from memorycell.sklearn import Forecaster
    Forecaster(target="load", horizon=24).fit(frame).predict(frame)

They train with `memorycell.train`; the trained model with all that it can do is `model_`. Needs
scikit-learn: pip install 'memorycell[sklearn]'.
"""

from memorycell.sklearn.detector import AnomalyDetector
from memorycell.sklearn.forecaster import Forecaster
from memorycell.sklearn.sequences import SequenceClassifier, SequenceRegressor

__all__ = ["AnomalyDetector", "Forecaster", "SequenceClassifier", "SequenceRegressor"]
