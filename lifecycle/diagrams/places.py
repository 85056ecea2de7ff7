"""Where the boxes of each picture stand: the only part of a picture that is not in the definition.

Places are x and y of a box's centre from the top left, and its width, in points. A corner makes an arrow
turn; arrows without corners go straight, or turn once. A box without a place is put below the picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput
from lifecycle.states import Event, State

#: The box or the frame that stands for all states that are not cancelled.
LIVE_BOX = "not cancelled"
Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """One picture: its events, the places of its boxes, and the corners of the arrows that turn."""

    title: str
    size: Point
    events: tuple[Event, ...]
    places: Mapping[str, tuple[float, float, float]]
    corners: Mapping[tuple[str, str], tuple[Point, ...]] = field(default_factory=dict)
    #: The frame around the states that are not cancelled: left, top, right, bottom.
    frame: tuple[float, float, float, float] | None = None


_E = Event
# fmt: off
PICTURES: Mapping[str, Picture] = {
    "lifecycle": Picture(
        "The whole lifecycle", (1330, 950), tuple(Event), frame=(95, 56, 672, 436), places={
            State.TRIAL: (200, 118, 150), State.ON_HOLD: (570, 118, 150),
            State.ACTIVE: (200, 332, 150), State.FROZEN: (570, 332, 150),
            State.CANCEL_PENDING: (200, 672, 150), State.ACCESS_REVOKED: (711, 672, 150),
            State.CONTENT_DELETED: (1180, 672, 150), State.PURGED: (1180, 900, 150),
            "expire_trial": (385, 118, 160), "downgrade": (195, 222, 155), "upgrade": (385, 219, 160),
            "freeze": (385, 303, 160), "thaw": (385, 384, 160),
            "suspend": (790, 230, 150), "lift_suspension": (790, 376, 150),
            "cancel": (189, 506, 170), "cancel_inactive": (368, 506, 165), "cancel_unpaid": (545, 506, 165),
            "terminate": (711, 506, 140), "cancel_expired_trial": (880, 506, 165),
            "revoke_access": (455, 655, 190), "suspend+terminate": (455, 734, 190),
            "delete_content": (940, 712, 185), "purge_backups": (1180, 786, 185),
            "reactivate": (270, 860, 350), "stays": (1115, 168, 390), "legend": (1010, 380, 180),
            "groups": (1215, 390, 190),
        }, corners={
            ("trial", "upgrade"): ((295, 134), (295, 205)),
            ("on_hold", "upgrade"): ((475, 134), (475, 205)),
            ("upgrade", "active"): ((295, 235), (295, 312)),
            ("active", "freeze"): ((285, 324),), ("freeze", "frozen"): ((475, 324),),
            ("suspend", "frozen"): ((740, 312),),
            ("lift_suspension", "not cancelled"): ((690, 400),),
            ("active", "cancel_inactive"): ((250, 441), (345, 441)),
            ("cancel_inactive", "cancel_pending"): ((368, 582), (225, 582)),
            ("cancel_unpaid", "cancel_pending"): ((545, 594), (243, 594)),
            ("cancel_expired_trial", "cancel_pending"): ((880, 606), (261, 606)),
            ("cancel_pending", "suspend+terminate"): ((310, 688), (310, 734)),
            ("suspend+terminate", "access_revoked"): ((690, 734),),
            ("access_revoked", "reactivate"): ((735, 805),),
            ("reactivate", "not cancelled"): ((55, 860), (55, 246)),
        },
    ),
    "way-out": Picture(
        "The customer's way out, and back", (1010, 640), (
            _E.CANCEL, _E.REVOKE_ACCESS, _E.REACTIVATE, _E.DELETE_CONTENT, _E.PURGE_BACKUPS,
            _E.RECORD_PAYMENT, _E.RECORD_REFUND, _E.PLACE_HOLD, _E.RELEASE_HOLD,
        ), places={
            LIVE_BOX: (100, 282, 130), State.CANCEL_PENDING: (500, 282, 150),
            State.ACCESS_REVOKED: (905, 282, 150), State.CONTENT_DELETED: (640, 435, 150),
            State.PURGED: (140, 435, 150), "cancel": (295, 282, 165), "revoke_access": (702, 282, 165),
            "reactivate": (500, 130, 370), "delete_content": (890, 435, 190), "purge_backups": (390, 435, 220),
            "stays": (245, 575, 430), "legend": (600, 575, 190), "groups": (850, 575, 230),
        }, corners={("access_revoked", "reactivate"): ((905, 130),), ("reactivate", LIVE_BOX): ((100, 130),)},
    ),
    "company": Picture(
        "The company's own cancellations", (1110, 660), (
            _E.EXPIRE_TRIAL, _E.UPGRADE, _E.FREEZE, _E.THAW, _E.CANCEL_EXPIRED_TRIAL, _E.CANCEL_UNPAID,
            _E.CANCEL_INACTIVE, _E.TERMINATE,
        ), frame=(60, 56, 650, 428), places={
            State.TRIAL: (165, 118, 150), State.ON_HOLD: (545, 118, 150),
            State.ACTIVE: (165, 320, 150), State.FROZEN: (545, 320, 150),
            State.CANCEL_PENDING: (1000, 290, 150), State.ACCESS_REVOKED: (1000, 615, 150),
            "expire_trial": (355, 118, 165), "upgrade": (355, 213, 165), "freeze": (355, 296, 165),
            "thaw": (355, 371, 165), "cancel_expired_trial": (770, 118, 170), "cancel_unpaid": (770, 270, 170),
            "cancel_inactive": (770, 418, 170), "terminate": (1000, 505, 170),
            "legend": (160, 540, 190), "groups": (400, 540, 220),
        }, corners={
            ("trial", "upgrade"): ((262, 134), (262, 200)), ("on_hold", "upgrade"): ((452, 134), (452, 200)),
            ("upgrade", "active"): ((262, 228), (262, 302)),
            ("active", "cancel_inactive"): ((165, 418),),
            ("cancel_inactive", "cancel_pending"): ((890, 418), (890, 300)),
            ("not cancelled", "terminate"): ((580, 512),),
        },
    ),
}
# fmt: on


def picture_named(name: str) -> Picture:
    """The picture of this name; :class:`InvalidInput` with the names there are when there is none."""
    if name not in PICTURES:
        raise InvalidInput(f"Unknown picture {shown(name)}: the pictures are {', '.join(PICTURES)}.")
    return PICTURES[name]
