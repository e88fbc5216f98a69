"""Labels and the mask of trusted voxels to what a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import find_boundaries

from napari_unet.core.corrections import Labels, Mask

FloatArray = npt.NDArray[np.float32]

RIM = 2
"""Width of the background around a trusted object that is trusted with it, in pixels: whoever draws
an object also says where it ends."""


@dataclass(frozen=True)
class Targets:
    """What the network should say, and where that is known.

    Attributes
    ----------
    values : (K, [Z,] Y, X) float32
        Objects: foreground (0 or 1), and distance to the rim (0 at the rim, 1 in the middle).
        Classes: one channel, the class id.
    weight : ([Z,] Y, X) float32
        0 where nothing is known; 1 and more where it is.
    """

    values: FloatArray
    weight: FloatArray


def object_targets(labels: Labels, trusted: Mask, *, border_weight: float = 0.0) -> Targets:
    """Targets of a network that finds objects.

    Parameters
    ----------
    labels : ([Z,] Y, X) int
    trusted : ([Z,] Y, X) bool
    border_weight : float
        The paper's `w0`: how much more the background between close objects counts.
    """
    values = np.stack([labels > 0, rim_distance(labels)]).astype(np.float32)
    weight = (trusted | _rim(labels, trusted)).astype(np.float32)
    if border_weight:
        weight *= 1 + border_weights(labels, border_weight)
    return Targets(values, weight)


def class_targets(labels: Labels, trusted: Mask) -> Targets:
    """Targets of a network that tells classes apart; no rim, for a stroke is no whole region."""
    return Targets(labels[None].astype(np.float32), trusted.astype(np.float32))


def _rim(labels: Labels, trusted: Mask) -> Mask:
    """Background beside trusted objects."""
    near: Mask = ndimage.binary_dilation(trusted & (labels > 0), iterations=RIM)
    rim: Mask = near & (labels == 0)
    return rim


def rim_distance(labels: Labels) -> FloatArray:
    """Distance of each voxel to its object's rim, as a share of the object's greatest distance.

    Parameters
    ----------
    labels : ([Z,] Y, X) int

    Returns
    -------
    ([Z,] Y, X) float32
        0 on background, close to 0 at the rim, 1 in the middle of each object. The edge of the
        array is no rim: an object goes on behind it.
    """
    inside = (labels > 0) & ~find_boundaries(labels, mode="inner")
    if inside.all():  # one object fills the array: no rim is in sight
        return np.ones(labels.shape, np.float32)
    distance = np.where(labels > 0, ndimage.distance_transform_edt(inside) + 0.5, 0)
    ids = _small_numbers(labels)
    greatest = np.zeros(int(ids.max()) + 1, distance.dtype)
    np.maximum.at(greatest, ids.ravel(), distance.ravel())
    return (distance / np.maximum(greatest, 0.5)[ids]).astype(np.float32)


def _small_numbers(labels: Labels) -> Labels:
    """Labels to be counted by: as they are, unless a list as long as the highest would take more room than they."""
    if int(labels.min()) >= 0 and int(labels.max()) <= labels.size:
        return labels
    ids: Labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return ids


def border_weights(labels: Labels, w0: float = 10.0, sigma: float = 5.0) -> FloatArray:
    """Extra weight of background that lies between two close objects.

    ``w0 * exp(-(d1 + d2)^2 / (2 sigma^2))`` with the distances d1 and d2 to the nearest and to the
    second nearest object.

    Parameters
    ----------
    labels : ([Z,] Y, X) int
    w0, sigma : float
        Greatest weight, and its reach in pixels.

    References
    ----------
    Ronneberger, Fischer & Brox, arXiv 1505.04597, equation 2.
    """
    reach = int(np.ceil(3 * sigma))
    labels = _small_numbers(labels)  # a list as long as the highest number is made below
    nearest = np.full(labels.shape, np.inf, np.float32)
    second = nearest.copy()
    for label, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is None:
            continue
        near = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in found)
        distance = ndimage.distance_transform_edt(labels[near] != label).astype(np.float32)
        closer = np.minimum(nearest[near], distance)
        second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
        nearest[near] = closer
    with np.errstate(over="ignore"):
        weight = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(labels == 0, weight, 0).astype(np.float32)
