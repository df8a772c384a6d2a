"""Every error that twonines raises on purpose.

::

    TwoninesError                500  exit 1
    ├── InputError               422  exit 2   the caller's input is wrong
    │   ├── SettingsError        400           an option, argument or setting
    │   ├── DatasetError         422           a folder that is not the named data set
    │   ├── ModelFileError       422           a model file without a valid card or contract
    │   ├── UnknownError         404           an id that is not known
    │   ├── ConflictError        409           not in the state that things are in
    │   ├── StaleError           409           an answer out of turn
    │   ├── LoginError           401           nobody is logged in, or the key is not valid
    │   ├── ForbiddenError       403           not this person, or not from this page
    │   │   └── RoleError        403           not with this role
    │   └── ImageError           422           a picture that cannot be decoded
    │       ├── ImageTypeError   415           not a picture
    │       └── TooLargeError    413           too many bytes, pixels or files
    ├── GateError                500  exit 3   a parity, verdict or demo gate failed
    ├── UploadTimeoutError       408           the upload did not end in time
    ├── OverloadedError          429           the queue is full
    │   └── QuotaError           429           the key's quota is used up
    ├── NotReadyError            503           starting, draining or no model
    │   └── StoreError           503           what must be kept cannot be stored or read
    └── DeadlineError            504           not answered in time
"""

from typing import Literal


class TwoninesError(Exception):
    """Root of the tree; ``status`` is its HTTP status, ``exit_code`` that of the command."""

    status = 500
    exit_code = 1


class InputError(TwoninesError):
    """The caller's input is wrong; the message names it, the requirement and what came."""

    status = 422
    exit_code = 2


class SettingsError(InputError):
    """An option, argument or setting is outside its range."""

    status = 400


class DatasetError(InputError):
    """A folder does not hold the data set that was named."""


class MaskError(DatasetError):
    """Marks that cannot be had or do not fit; ``kind`` is the fault's name in a check's report."""

    def __init__(
        self,
        kind: Literal["mask_missing", "mask_unreadable", "mask_size", "annotation_size", "turned"],
        message: str,
    ) -> None:
        """Keep the kind beside the message."""
        super().__init__(message)
        self.kind = kind


class FetchError(DatasetError):
    """An archive cannot be downloaded, has another digest, or holds unsafe paths."""


class ModelFileError(InputError):
    """A file is not a twonines model: no valid card, or the wrong inputs or outputs."""


class UnknownError(InputError):
    """An id that is not known, or not any more."""

    status = 404


class ConflictError(InputError):
    """What is asked for does not go together with the state that things are in.

    ``overridable`` says that it is done all the same where somebody gives a reason.
    """

    status = 409

    def __init__(self, message: str, *, overridable: bool = False) -> None:
        """See the class."""
        super().__init__(message)
        self.overridable = overridable


class StaleError(InputError):
    """An answer to something whose turn it is not, or not any more."""

    status = 409


class LoginError(InputError):
    """Nobody is logged in, or what came with the request lets nobody in."""

    status = 401


class ForbiddenError(InputError):
    """The one who asks may not do this."""

    status = 403


class RoleError(ForbiddenError):
    """The role of the one who asks does not cover this; ``least`` is the one that does."""

    def __init__(self, role: str, least: str) -> None:
        """Tell both roles."""
        super().__init__(f"role: {role} may not do this; it takes {least}")
        self.least = least


class ImageError(InputError):
    """A picture cannot be decoded."""


class ImageTypeError(ImageError):
    """The bytes are not a picture of a known type."""

    status = 415


class TooLargeError(ImageError):
    """Too many bytes, pixels or files."""

    status = 413


class GateError(TwoninesError):
    """A gate that protects the user failed: parity, verdicts or a claim of the demo."""

    exit_code = 3


class UploadTimeoutError(TwoninesError):
    """The upload did not end in time."""

    status = 408


class OverloadedError(TwoninesError):
    """The queue is full; ``retry_after_s`` says when to come back."""

    status = 429

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Keep the wait beside the message."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaError(OverloadedError):
    """A key's quota is used up; ``retry_after_s`` says when the next begins."""


class NotReadyError(TwoninesError):
    """The service is starting or draining, or holds no model."""

    status = 503


class StoreError(NotReadyError):
    """What must be kept cannot be stored or read: a full disk, a lost database, damage."""


class DeadlineError(TwoninesError):
    """The answer did not come in time."""

    status = 504
