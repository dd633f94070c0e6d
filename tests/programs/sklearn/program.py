"""scikit-learn through joblib's backend of the name "ray", beside what it does sequentially."""

import joblib
import numpy as np
import ray
from ray.util.joblib import register_ray
from sklearn.datasets import load_digits, make_regression
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score, permutation_test_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC


def main() -> None:
    ray.init(num_cpus=2)
    register_ray()
    x, y = load_digits(n_class=5, return_X_y=True)
    x, y = x[:400], y[:400]
    wide, target = make_regression(600, 300, random_state=3)
    assert wide.nbytes > 1 << 20  # goes to the object store once, not with each task
    compare("cross validation", lambda jobs: cross_val_score(SVC(), x, y, cv=4, n_jobs=jobs))
    compare("grid search", lambda jobs: search(x, y, jobs))
    compare("forest", lambda jobs: forest(x, y, jobs))
    compare("one versus the rest", lambda jobs: classes(x, y, jobs))
    compare("permutations", lambda jobs: permutations(wide, target, jobs))
    with joblib.parallel_config(backend="ray"):
        assert joblib.effective_n_jobs(-1) == 2


def search(x, y, jobs):
    grid = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.001, 0.01]}, cv=3, n_jobs=jobs).fit(x, y)
    return [grid.best_params_["C"], grid.best_params_["gamma"], *grid.cv_results_["mean_test_score"]]


def classes(x, y, jobs):
    return OneVsRestClassifier(SVC(), n_jobs=jobs).fit(x, y).decision_function(x)


def permutations(x, y, jobs):
    _, scores, _ = permutation_test_score(Ridge(), x, y, cv=2, n_permutations=6, random_state=1, n_jobs=jobs)
    return scores


def forest(x, y, jobs):
    model = RandomForestClassifier(20, random_state=5, n_jobs=jobs, oob_score=True).fit(x, y)
    return np.append(model.predict_proba(x).ravel(), model.oob_score_)


def compare(what, compute):
    expected = compute(1)
    with joblib.parallel_config(backend="ray", n_jobs=2):
        np.testing.assert_allclose(compute(None), expected)
    print("same:", what)


if __name__ == "__main__":
    main()
