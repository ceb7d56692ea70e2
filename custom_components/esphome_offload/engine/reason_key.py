"""The catalogue of the keys of reasons, each with its English text."""

from enum import StrEnum
from string import Formatter
from typing import Self


class ReasonKey(StrEnum):
    """The key of a reason.

    Each has its English text, for logs; the translations have the same under the same key
    (``exceptions``). A text has no full stop: a line or the reasons of others may follow.
    """

    text: str

    def __new__(cls, value: str, text: str = "") -> Self:
        """Return a member with its English text."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member

    # One line for each, however long its text is.
    # fmt: off
    # In general.
    UNEXPECTED = "unexpected", "Something unexpected happened; the log says more"
    CANCELLED_BY_USER = "cancelled_by_user", "It was cancelled"
    SUPERSEDED = "superseded", "A newer job replaced it"
    HOME_ASSISTANT_STOPPED = "home_assistant_stopped", "Home Assistant was stopped"

    # This machine.
    NOT_LINUX = "not_linux", "Builds need Linux, and this is {system}"
    NOT_GLIBC = "not_glibc", "The compilers for ESP devices need glibc, and this system uses musl (Home Assistant OS and the official container do); build on another machine"
    MEMORY_LOW = "memory_low", "Too little free memory for a build ({free} MiB of at least {needed} MiB)"
    DISK_LOW = "disk_low", "Too little free disk for a build ({free} MiB of at least {needed} MiB)"
    DISK_UNUSABLE = "disk_unusable", "The cache folder cannot be used"

    # ESPHome versions.
    VERSION_INVALID = "version_invalid", "{version} is not an ESPHome version; one looks like 2026.10.0 or 2026.10.0b1"
    VERSION_UNKNOWN = "version_unknown", "There is no ESPHome {version}; choose a released version"
    VERSION_OTHER_PYTHON = "version_other_python", "ESPHome {version} does not run on Python {python}, which is used here; choose another version"
    VERSION_UNCHECKED = "version_unchecked", "ESPHome {version} cannot be looked up; check the internet connection of this machine"
    NEWEST_UNCHECKED = "newest_unchecked", "The newest ESPHome version cannot be looked up; check the internet connection of this machine"
    VERSION_NOT_DOWNLOADED = "version_not_downloaded", "ESPHome {version} is not installed yet and cannot be downloaded; check the internet connection of this machine"
    VERSION_NOT_AMONG_INSTALLED = "version_not_among_installed", "ESPHome {version} is not installed yet and cannot be downloaded; check the internet connection of this machine, or choose an installed version ({installed})"
    VERSION_NO_MEMORY = "version_no_memory", "Memory ran out while ESPHome {version} was installed"
    VERSION_NO_DISK = "version_no_disk", "The disk is full, so ESPHome {version} cannot be installed; make room and try again"
    VERSION_BROKEN = "version_broken", "ESPHome {version} was installed, but does not start; choose another version"
    VERSION_NOT_STARTED = "version_not_started", "ESPHome {version} cannot be started now"
    VERSION_NOT_INSTALLED = "version_not_installed", "ESPHome {version} cannot be installed (uv ended with exit code {code})"
    INSTALLER_FAILED = "installer_failed", "ESPHome {version} cannot be installed, because uv could not be run"

    # Builds.
    FILE_NAME_INVALID = "file_name_invalid", "{configuration} is not a file name"
    ESPHOME_FAILED = "esphome_failed", "ESPHome could not be run"
    CONFIG_REFUSED = "config_refused", "ESPHome does not accept the configuration"
    CONFIG_REFUSED_AT = "config_refused_at", "ESPHome does not accept the configuration ({file}, line {row})"
    DOWNLOAD_FAILED = "download_failed", "Something that the build needs cannot be downloaded; check the internet connection of the machine that builds"
    DISK_FULL = "disk_full", "The disk is full; make room on the machine that builds and try again"
    TOOL_MISSING = "tool_missing", "A tool of the build is missing on the machine that builds, or cannot run there"
    TOOL_CRASHED = "tool_crashed", "The compiler crashed; if that happens again, check the memory and the storage of the machine that builds"
    TOOLS_NOT_SET_UP = "tools_not_set_up", "The tools of the build cannot be set up on the machine that builds"
    TOOLS_IN_USE = "tools_in_use", "The tools on {label} are used by a build; try again when it has ended"
    MEMORY_RAN_OUT = "memory_ran_out", "Memory ran out; build on a machine that has more of it"
    BUILD_KILLED = "build_killed", "The build was ended from outside ({signal})"
    BUILD_NOT_BEGUN = "build_not_begun", "The build ended with exit code {code} before anything was compiled; the log of the job says more"
    BUILD_BROKE_OFF = "build_broke_off", "The build broke off with exit code {code}, and nothing says why; if that happens again, check the memory and the storage of the machine that builds"
    SETTINGS_REFUSED = "settings_refused", "The build system does not accept the settings of the configuration"
    CODE_REFUSED = "code_refused", "The code does not compile"
    CODE_REFUSED_AT = "code_refused_at", "The code does not compile ({file}, line {row})"
    CODE_NOT_LINKED = "code_not_linked", "The firmware cannot be linked"
    FIRMWARE_TOO_LARGE = "firmware_too_large", "The firmware is too large for the device; remove something from the configuration"
    FIRMWARE_TOO_LARGE_BY = "firmware_too_large_by", "The firmware is too large for the device by {bytes} bytes; remove something from the configuration"
    BUILD_ENDED = "build_ended", "The build ended with exit code {code}; the log of the job says more"
    RESULT_MISSING = "result_missing", "ESPHome reported success, but its result is not where it should be"
    BUILD_PATH_OUTSIDE = "build_path_outside", "The configuration builds outside of the folder that is there for it; remove build_path from it"
    OTHER_VERSION = "other_version", "The firmware is of another version than ESPHome {version}, which was asked for; it is not used"
    NOTHING_BUILT_YET = "nothing_built_yet", "Nothing has been built for {configuration} yet"
    FIRMWARE_GONE = "firmware_gone", "The firmware of {device} is not there any more; build it again"
    IMAGE_GONE = "image_gone", "This file of {configuration} is not kept any more; build it again"
    FIRMWARE_CHANGED = "firmware_changed", "The kept firmware of {device} was altered since it was built and is not used; build it again"
    CONFIGURATION_CHANGED = "configuration_changed", "The configuration was changed meanwhile"
    CONFIGURATION_MISSING = "configuration_missing", "{configuration} is not in the configuration folder any more"

    # Bundles.
    BUNDLE_FAILED = "bundle_failed", "ESPHome could not bundle {configuration}"
    BUNDLE_UNSUPPORTED = "bundle_unsupported", "ESPHome {version} makes no bundles, so it builds on this machine only; choose a newer version"
    BUNDLE_LEAVES_OUT = "bundle_leaves_out", "Not sent to another machine: {files}. Only what lies in Home Assistant's configuration folder is, nothing private there, and nothing by an absolute path. Move it into the ESPHome folder to build elsewhere"
    BUNDLE_LEAVES_OUT_MORE = "bundle_leaves_out_more", "Not sent to another machine: {files} and {count} more. Only what lies in Home Assistant's configuration folder is, nothing private there, and nothing by an absolute path. Move them into the ESPHome folder to build elsewhere"
    BUNDLE_UNREADABLE = "bundle_unreadable", "ESPHome made a bundle that cannot be read"
    BUNDLE_UNUSABLE = "bundle_unusable", "The bundle of {configuration} cannot be used here"
    BUNDLE_UNSENDABLE = "bundle_unsendable", "The bundle of {configuration} cannot be sent"
    BUNDLE_REFUSED = "bundle_refused", "The builder does not accept the bundle"
    BUNDLE_LOST = "bundle_lost", "The builder has lost this bundle; it has to be sent again"
    BUNDLE_LACKS = "bundle_lacks", "{configuration} is not in its own bundle"

    # Flashes.
    UPLOAD_FAILED_TO_START = "upload_failed_to_start", "The upload could not be started"
    UPLOAD_STOPPED = "upload_stopped", "The upload was stopped"
    UPLOAD_CUT_OFF = "upload_cut_off", "The upload to {device} was cut off"
    UPLOAD_TIMED_OUT = "upload_timed_out", "The upload to {device} was cut off: it timed out"
    UPLOAD_STALLED = "upload_stalled", "The upload to {device} did not advance, and was ended"
    DEVICE_UNREACHABLE = "device_unreachable", "{device} could not be reached"
    DEVICE_REFUSES = "device_refuses", "{device} did not take the firmware"
    DEVICE_REFUSES_PASSWORD = "device_refuses_password", "{device} did not take the firmware: the OTA password or the encryption key is wrong"
    DEVICE_REFUSES_SIZE = "device_refuses_size", "{device} did not take the firmware: there is not enough space on it"
    DEVICE_REFUSES_IMAGE = "device_refuses_image", "{device} did not take the firmware: it is not made or not signed for this device"
    DEVICE_REFUSES_DOWNGRADE = "device_refuses_downgrade", "{device} did not take the firmware: it is protected against older versions"
    DEVICE_NEEDS_RESET = "device_needs_reset", "{device} has to be restarted by hand once, as after each flash over USB"
    CONFIGURATION_WITHOUT_OTA = "configuration_without_ota", "The configuration of {device} has no OTA update platform for the network; add one and install it by cable once"
    DEVICE_AMBIGUOUS = "device_ambiguous", "It is unclear which device {device} is: {rivals} could be it as well. Give the configuration an address (use_address), name one for this job, or remove what is a copy"
    FIRMWARE_OF_ANOTHER = "firmware_of_another", "The firmware is made for {name}, and not for {device}; nothing was sent. Check the name in the configuration, and build it again"
    FIRMWARE_OF_NO_SUCH = "firmware_of_no_such", "The firmware is not made for {device}; nothing was sent. Build it again on another machine"
    DEVICE_GONE = "device_gone", "{device} is no device of its configuration any more; nothing was sent. Start a new job for the device that the configuration has now"
    DEVICE_STAYS_BUSY = "device_stays_busy", "{device} is being updated by somebody else; the firmware is built and can be uploaded later"
    DEVICE_STAYS_AWAY = "device_stays_away", "{device} is offline; the firmware is built and can be uploaded later"
    DEVICE_DISPLACED = "device_displaced", "Home Assistant is connected to another device where {device} should be; nothing was sent. Check its address, in its configuration and in Home Assistant; the firmware is built and can be uploaded later"
    ANOTHER_BUILD_RUNS = "another_build_runs", "{device} came back, but with another build"
    WENT_BACK = "went_back", "{device} went back to its old firmware: it restarted before the new one counted as good; its own log may say why"
    WENT_BACK_AFTER = "went_back_after", "{device} went back to its old firmware: it restarted before the new one counted as good. It gives this reason: {restart}"
    UNVERIFIED_UNKNOWN = "unverified_unknown", "{device} took the firmware; whether it runs it is not known, because Home Assistant is not connected to it and it does not announce another build than before"
    UNVERIFIED_API = "unverified_api", "{device} took the firmware; whether it runs it is not known, because Home Assistant cannot connect to it. Check its API and the key for it in Home Assistant"
    UNVERIFIED_CANCELLED = "unverified_cancelled", "{device} had taken the firmware when the job was cancelled; it was not checked whether the device runs it"
    DEVICE_NOT_BACK = "device_not_back", "{device} was flashed, but did not come back"

    # Why a builder was chosen.
    CHOSEN_AS_ASKED = "chosen_as_asked", "It was asked for"
    CHOSEN_FIRST = "chosen_first", "It is expected to be done first: in about {time}, {label} in {other}"
    CHOSEN_SHORTEST_QUEUE = "chosen_shortest_queue", "Its queue is the shortest"
    CHOSEN_WARM = "chosen_warm", "It has built this device before"
    CHOSEN_IDLE = "chosen_idle", "It is idle"
    CHOSEN_FREE_SLOT = "chosen_free_slot", "It has a free build slot"
    CHOSEN_KEPT = "chosen_kept", "Nothing has changed since: the firmware that it built before is used again, and nothing is compiled"
    CHOSEN_HAS_BUILD = "chosen_has_build", "It has this build already"

    # Why another one was not, or none.
    NOT_AVAILABLE = "not_available", "It is not available"
    NOT_ASKED_FOR = "not_asked_for", "Another builder was asked for"
    NOT_BY_CHOICE = "not_by_choice", "It is not used, by choice"
    NOT_WHILE_PEERS_CAN = "not_while_peers_can", "It builds only when no paired builder can"
    SLOTS_BUSY = "slots_busy", "It is busy ({load} of {slots})"
    NOT_FIRST = "not_first", "It is expected to need about {time}"
    NOT_PREFERRED = "not_preferred", "{label} is preferred"
    NOT_BACK_AGAIN = "not_back_again", "It is not there again"
    NO_SUCH_BUILDER = "no_such_builder", "There is no such builder"
    NO_BUILDER = "no_builder", "There is no builder"
    NO_BUILDER_TAKES = "no_builder_takes", "No builder takes this job"
    BUILDER_STOPPED = "builder_stopped", "{label} stopped the work"

    # What a job waits for.
    WAITS_FOR_CONNECTIONS = "waits_for_connections", "Builders to connect"
    WAITS_FOR_BUILDER = "waits_for_builder", "A builder"
    WAITS_FOR_ITS_BUILDER = "waits_for_its_builder", "{label}, which has the build already"
    WAITS_FOR_SLOT = "waits_for_slot", "A free build slot ({labels})"
    WAITS_IN_LINE = "waits_in_line", "A free build slot ({label}, {ahead} before it)"
    WAITS_NEXT_IN_LINE = "waits_next_in_line", "A free build slot ({label}, next in line)"
    WAITS_FOR_RETRY = "waits_for_retry", "Another try in {seconds} s"
    WAITS_FOR_DEVICE = "waits_for_device", "{device} to be reachable"
    FIRMWARE_PENDING = "firmware_pending", "ESPHome {version} for {device} is built, and is installed as soon as the device is ready"
    WAITS_FOR_ADDRESS = "waits_for_address", "{device} to be reachable: Home Assistant is connected to another device where it should be. Check its address"
    WAITS_FOR_UPDATE = "waits_for_update", "{device}, which is being updated by somebody else"
    WAITS_FOR_GOOD_BOOT = "waits_for_good_boot", "The new firmware of {device} to count as good, in about {seconds} s"
    WAITS_FOR_OTHER_JOB = "waits_for_other_job", "Another job that flashes this device"
    WAITS_FOR_UPLOAD_SLOT = "waits_for_upload_slot", "A free upload slot"

    # Peers, as seen from the offloader.
    PEER_NOT_CONNECTED = "peer_not_connected", "It is not connected"
    PEER_WITHOUT_STATUS = "peer_without_status", "It has not said yet what it can do"
    PEER_FORGOT = "peer_forgot", "It does not know this Home Assistant any more; pair the two again"
    PEER_TOO_OLD = "peer_too_old", "It runs a version of ESPHome Offload that is too old; update it there"
    PEER_TOO_NEW = "peer_too_new", "It runs a version of ESPHome Offload that is too new; update it here"
    PEER_AWAY = "peer_away", "It cannot be reached"
    PEER_CERTIFICATE = "peer_certificate", "Its certificate is not trusted here"
    PEER_WITHOUT_OFFLOAD = "peer_without_offload", "ESPHome Offload does not run there"
    PEER_WANTS_HTTPS = "peer_wants_https", "It wants to be reached by https; change its address"
    PEER_LOST = "peer_lost", "The connection to it was lost"
    PEER_UNCLEAR = "peer_unclear", "Its answer makes no sense"
    PEER_OVERLOADED = "peer_overloaded", "It is too busy to answer"
    PEER_NOT_LENT = "peer_not_lent", "It does not build for others"
    PEER_REPLACED = "peer_replaced", "Another builder answers at its address, or it has a new identity; pair the two again"
    PEER_COPIED = "peer_copied", "It has the identity of this Home Assistant; make a new one and pair the two again"
    PEER_UNPAIRED = "peer_unpaired", "Its owner ended the pairing; pair the two again"
    PEER_UNREACHABLE = "peer_unreachable", "{label} cannot be reached"
    PEER_MALFORMED = "peer_malformed", "{label} says something that makes no sense"
    PEER_LOST_BUILD = "peer_lost_build", "{label} does not have the build any more"
    PEER_LOST_FIRMWARE = "peer_lost_firmware", "{label} has lost what it built"
    PEER_DISK_LOW = "peer_disk_low", "{label} has too little free disk"
    PEER_BUNDLE_TOO_LARGE = "peer_bundle_too_large", "{label} does not take so large a bundle"
    PEER_NOT_LENDING = "peer_not_lending", "{label} does not accept builds at the moment"
    PEER_BUSY = "peer_busy", "{label} has too many builds waiting"
    PEER_REFUSED = "peer_refused", "{label} refused the build"
    PEER_STOPPED_BUILD = "peer_stopped_build", "{label} stopped the build"
    PEER_CONFIG_REFUSED = "peer_config_refused", "The configuration is valid here, but not on {label}"
    PEER_WITHOUT_REASON = "peer_without_reason", "{label} could not build, and its reason is not known here"
    FIRMWARE_NOT_OURS = "firmware_not_ours", "What {label} sent as the firmware of {device} is not what it should be; it is not used"
    FIRMWARE_NOT_KEPT = "firmware_not_kept", "The firmware of {device} cannot be kept here"

    # Lending, as seen by guests and by the owner.
    NOT_LENT = "not_lent", "It does not build for others any more"
    ACCEPTS_NO_BUILDS = "accepts_no_builds", "It does not accept builds at the moment"
    STOPPED_BY_OWNER = "stopped_by_owner", "Its owner stopped this build"
    CONTAINED = "contained", "Builds of guests are contained on this machine: each can read and change its own files and run the compilers and the system's programs, but can neither see any other file nor end other programs; not contained are the network, which it can use as this machine can, and how much processor time, memory and disk it takes"
    CONTAINED_BY_USERS = "contained_by_users", "Builds of guests are contained on this machine, by a user of its own for each guest: a build can change its own files alone, can neither read what belongs to others nor end their programs, but can read what every user of this machine can, and see which programs run; not contained are the network, which it can use as this machine can, and how much processor time, memory and disk it takes"
    CONTAINED_SIGNALS_OPEN = "contained_signals_open", "Builds of guests are contained on this machine: each can read and change its own files and run the compilers and the system's programs, but cannot see any other file; with this kernel ({kernel}) it can end other programs of the same user, which Linux 6.12 and later prevent; not contained are the network, which it can use as this machine can, and how much processor time, memory and disk it takes"
    NOT_CONTAINED = "not_contained", "Nothing contains builds of guests on this machine, so each can read and change everything that the program that starts it can"
    LANDLOCK_MISSING = "landlock_missing", "the kernel {kernel} has none; Linux 5.13 and later can have it"
    LANDLOCK_SWITCHED_OFF = "landlock_switched_off", "the kernel {kernel} was started without it; add landlock to its parameter lsm"
    LANDLOCK_FORBIDDEN = "landlock_forbidden", "something around this program, most likely a container, does not let it use that"
    SECCOMP_UNKNOWN = "seccomp_unknown", "not possible on a machine of type {machine}"
    GUEST_USERS_NOT_ROOT = "guest_users_not_root", "only root can give each guest a user of its own"
    GUEST_USERS_WEAK_ROOT = "guest_users_weak_root", "to give each guest a user of its own, this container needs the capabilities {capabilities}"
    GUEST_USERS_TOO_FEW = "guest_users_too_few", "this container has too few user ids to give each guest one of its own"
    GUEST_USERS_SHUT_OUT = "guest_users_shut_out", "a user of its own for each guest could not pass {folder}; use another folder, or let others pass it (chmod o+x)"
    GUEST_USERS_CAN_READ = "guest_users_can_read", "a user of its own for each guest could read or change {path}, as every user can; close it to others (chmod o-rwx)"
    NOBODY_ATTACHED = "nobody_attached", "Nobody has asked for it for 30 minutes"
    GUEST_REMOVED = "guest_removed", "The pairing was removed"
    NOT_WANTED = "not_wanted", "It is not wanted any more"

    # Identities.
    IDENTITY_UNREADABLE = "identity_unreadable", "The identity file {file} cannot be read"
    IDENTITY_UNWRITABLE = "identity_unwritable", "The identity file {file} cannot be written"
    IDENTITY_DAMAGED = "identity_damaged_file", "The identity file {file} is damaged; restore it from a backup, or remove it and pair again"

    # Configurations that cannot be read.
    CONFIGURATION_SYNTAX = "configuration_syntax", "{file} is not valid YAML (line {row})"
    CONFIGURATION_NOT_TEXT = "configuration_not_text", "{file} is not UTF-8 text; save it with that encoding"
    CONFIGURATION_DOCUMENTS = "configuration_documents", "{file} has more than two YAML documents; keep one"
    CONFIGURATION_FILE_NAME = "configuration_file_name", "The name of {file} is not UTF-8 text; rename the file"
    CONFIGURATION_FILE_MISSING = "configuration_file_missing", "{file} includes {missing}, which does not exist"
    CONFIGURATION_FILE_UNREADABLE = "configuration_file_unreadable", "{file} cannot be read, or is not a regular file"
    CONFIGURATION_INCLUDE_UNDEFINED = "configuration_include_undefined", "{file} includes a file whose name uses a substitution that is not defined"
    CONFIGURATION_NESTED_TOO_DEEPLY = "configuration_nested_too_deeply", "{file} includes itself, or its values are nested too deeply"
    CONFIGURATION_SECRET_UNKNOWN = "configuration_secret_unknown", "{file} uses the secret {name}, which is not in secrets.yaml"
    CONFIGURATION_VARIABLE_OF_ENVIRONMENT = "configuration_variable_of_environment", "{file} uses the environment variable {name}, which is not set"
    CONFIGURATION_VARIABLE_UNDEFINED = "configuration_variable_undefined", "{file} uses the substitution {variable}, which is not defined"
    CONFIGURATION_EXPRESSION = "configuration_expression", "{file} has an expression that cannot be evaluated"
    CONFIGURATION_REFUSED = "configuration_refused", "ESPHome does not accept {file}"
    CONFIGURATION_REFUSED_AT = "configuration_refused_at", "ESPHome does not accept what {file} has under {where}"
    CONFIGURATION_WITHOUT_SECTION = "configuration_without_section", "The last YAML document of {file} has no esphome section; remove what separates them"
    CONFIGURATION_NAME_MISSING = "configuration_name_missing", "{file} gives its device no name; add one to its esphome section"
    CONFIGURATION_NAME_NOT_TEXT = "configuration_name_not_text", "The name of the device in {file} is not a text; put it in quotes"
    CONFIGURATION_NAME_UNDEFINED = "configuration_name_undefined", "The name of the device in {file} uses the substitution {variable}, which is not defined"
    CONFIGURATION_NAME_INVALID = "configuration_name_invalid", "The name of the device in {file} may only have lower-case letters, digits, hyphens and underscores, and at least one"
    CONFIGURATION_NAME_TOO_LONG = "configuration_name_too_long", "The name of the device in {file} is longer than {limit} characters"
    CONFIGURATION_SECTION_MISSING = "configuration_section_missing", "{file} and what it includes have no esphome section any more; correct what it includes, or save {file} again if it is no device"
    CONFIGURATION_PLATFORM_MISSING = "configuration_platform_missing", "{file} names no platform any more, such as esp32 or esp8266"
    CONFIGURATION_PACKAGE_NOT_FETCHED = "configuration_package_not_fetched", "The name of the device in {file} comes from a remote package that could not be fetched yet; this is tried every hour. Without the network, give the device a name in {file} itself"
    CONFIGURATION_TAKES_MEMORY = "configuration_takes_memory", "{file} takes too much memory to be read"
    CONFIGURATION_TAKES_TIME = "configuration_takes_time", "{file} takes too long to be read"
    CONFIGURATION_CRASHES_ESPHOME = "configuration_crashes_esphome", "ESPHome fails when it reads {file}"

    # In the place of a line of ESPHome that quotes what may be secret.
    LINE_SECRET_UNDEFINED = "line_secret_undefined", "A secret that is used is not defined; the log names it"
    LINE_ID_UNDEFINED = "line_id_undefined", "An ID that is used is not defined; the log names it"
    LINE_ID_TWICE = "line_id_twice", "An ID is defined twice; the log names it"
    LINE_KEY_TWICE = "line_key_twice", "A key is there twice; the log names it"
    LINE_PIN_TWICE = "line_pin_twice", "A pin is used in multiple places; the log names it"

    # The configuration folder.
    FOLDER_MISSING = "folder_missing", "It does not exist"
    FOLDER_UNREADABLE = "folder_unreadable", "It cannot be read"
    FOLDER_SILENT = "folder_silent", "It does not answer"
    FOLDER_EMPTY = "folder_empty", "All configurations in it are gone at once"
    WAITS_FOR_FOLDER = "waits_for_folder", "The configuration folder, which is unavailable"
    # fmt: on

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters that the text has."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self.text) if name)
