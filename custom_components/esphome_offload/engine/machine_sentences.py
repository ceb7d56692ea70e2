"""What tools say of the machine that they run on: its network, its disk, its memory and themselves."""

from http import HTTPStatus
from typing import Final

from .tool_sentences import fixed, named

_SIGNAL: Final = r"(Segmentation fault|Illegal instruction|Bus error|Aborted|Floating point exception|Terminated)"
_STATUS: Final = (
    r"(?:[Rr]eturned (?:an )?error:?|HTTP(?:/\d\.\d)?|HTTP [Ee]rror:?|[Ss]tatus(?: code)?:?|HTTPClientError:"
    r"|HTTP (?:status )?code:?|answered:?|response|[Ee]rror:?|:|\() ?[\['\"]?"
)
_NO_STATUS: Final = r"\b(?! ?(?:bytes|ms|seconds)|:\d|: (?:fatal )?(?:error|warning))"
_ANSWERS: Final = (
    *(
        fixed(
            rf"{_STATUS}{status.value}{_NO_STATUS}",
            f"The server answered: {status.value} {status.phrase}",
        )
        for status in (
            HTTPStatus.FORBIDDEN,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            HTTPStatus.BAD_GATEWAY,
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.GATEWAY_TIMEOUT,
        )
    ),
    fixed(rf"{_STATUS}((?!443)[45]\d\d){_NO_STATUS}", "The server answered: {0}"),
)
"""What servers answer with instead of what was asked for."""

NETWORK: Final = (
    fixed(r"component registry", "Cannot establish a connection to the component registry"),
    fixed(r"not connected to the Internet", "You are not connected to the Internet"),
    *_ANSWERS,
    fixed(
        r"Could not resolve|[Cc]ouldn't resolve|Failed to resolve '|failed to resolve host"
        r"|NameResolutionError|Could not resolve host",
        "Could not resolve host",
    ),
    fixed(
        r"[Nn]ame resolution|Name or service not known|nodename nor servname|getaddrinfo failed"
        r"|No address associated with hostname|dns error|failed to lookup address",
        "Name resolution failed",
    ),
    fixed(
        r"certificate|CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError",
        "The certificate could not be verified",
    ),
    fixed(
        r"SSLError|SSLEOFError|\bSSL\b|\bTLS\b|gnutls|GnuTLS|OpenSSL|schannel",
        "The TLS (SSL) connection failed",
    ),
    fixed(r"Connection refused|NewConnectionError", "Failed to connect: Connection refused"),
    fixed(
        r"Connection reset by peer|ConnectionResetError|connection reset",
        "Connection reset by peer",
    ),
    fixed(r"No route to host", "No route to host"),
    fixed(r"[Nn]etwork is (?:unreachable|down)", "Network is unreachable"),
    fixed(
        r"[Tt]imed? ?out|TimeoutError|ReadTimeout|ConnectTimeout|operation was too slow|Timeout\b",
        "The connection timed out",
    ),
    fixed(
        r"Failed to connect|[Cc]ouldn't connect|[Cc]ould not connect|[Cc]annot connect"
        r"|[Uu]nable to connect|error trying to connect",
        "Failed to connect to the server",
    ),
    fixed(
        r"(RPC failed|early EOF|unexpected disconnect|index-pack failed|remote end hung up"
        r"|Connection aborted|Connection broken|IncompleteRead|ChunkedEncodingError"
        r"|RemoteDisconnected|connection closed|transfer closed|Empty reply from server"
        r"|Broken pipe|BrokenPipeError)",
        "The connection was cut off ({0})",
    ),
    fixed(
        r"((?:sha256|SHA256|size|[Cc]hecksum|hash|MD5|sum) (?:mismatch|does not match|do not match)"
        r"|do not match the hashes|DO NOT MATCH THE HASHES|[Ii]nvalid checksum)",
        "What was downloaded is damaged: {0}",
    ),
    named(
        r"(?:No matching distribution found for|satisfies the requirement) ([A-Za-z0-9][A-Za-z0-9_.-]{0,60})",
        "No matching distribution found for {0}",
        "No matching distribution found",
    ),
    named(
        r"(?:Because )?([A-Za-z0-9][A-Za-z0-9_.-]{0,60}) was not found in the (?:package registry|cache)",
        "{0} was not found in the package registry",
        "A package was not found in the package registry",
    ),
    named(
        r"update failed for projects? ([A-Za-z][A-Za-z0-9_.-]{0,40})",
        "west update failed for project {0}",
        "west update failed",
    ),
)
"""What programs say that download something."""

TOOLS: Final = (
    fixed(r"\bccache: error: ", "The compiler cache cannot be used"),
    named(
        r"error while loading shared libraries: (lib[A-Za-z0-9_+.-]{1,40}\.so[0-9.]{0,12})",
        "error while loading shared libraries: {0}",
        "error while loading shared libraries",
    ),
    fixed(r"error while loading shared libraries", "error while loading shared libraries"),
    fixed(
        r"version [`'\u2018]?((?:GLIBC|GLIBCXX|CXXABI|GCC)_[0-9.]{1,12})['\u2019]? not found",
        "version {0} not found",
    ),
    fixed(
        r"no (ESP8266|ESP32|RP2040|nRF52) toolchain for this system",
        "There is no {0} toolchain for this system",
    ),
    fixed(
        r"There is no toolchain|No [\w-]{1,40} [\w.]{1,20} build for this platform",
        "There is no toolchain for this system",
    ),
    fixed(r"cannot find (crt[1-9a-z]{1,5}\.o)", "cannot find {0}"),
    fixed(r"cannot find (-l(?:c|m|gcc|stdc\+\+|supc)\b)", "cannot find {0}"),
    fixed(r"Read-only file system"),
    fixed(r"Permission denied|PermissionError", "Permission denied"),
    fixed(r"Operation not permitted"),
    fixed(r"[Ee]xec format error", "Exec format error"),
    fixed(r"[Bb]ad interpreter", "bad interpreter"),
    fixed(
        r"Resource temporarily unavailable|BlockingIOError",
        "fork: Resource temporarily unavailable",
    ),
    fixed(r"can't start new thread"),
    fixed(r"Too many open files"),
    fixed(r"Input/output error"),
    fixed(r"Structure needs cleaning"),
    fixed(r"Stale file handle"),
    fixed(r"Text file busy"),
    fixed(
        r"[Cc]ould not find one of '?(package|platform|library)\.json'? manifest",
        "Could not find one of {0}.json manifest files in the package",
    ),
    fixed(r"Missing toolchain directory|is missing the expected", "The toolchain is incomplete"),
    fixed(
        r"(not a zip file|not a gzip file|not an? \w{2,4} file|BadZipFile|BadGzipFile|tarfile\.ReadError"
        r"|Compressed file ended|[Uu]nexpected end of (?:data|file|archive)|zlib\.error|LZMAError|EOFError)",
        "An archive is damaged ({0})",
    ),
    fixed(r"[Gg]it is not installed|git not found", "git is not installed"),
    named(
        r"No module named ['\"]?([A-Za-z_][A-Za-z0-9_.]{0,60})",
        "No module named {0}",
        "A Python module is missing",
    ),
    named(
        r"\b([a-z0-9-]{1,40}-(?:gcc|g\+\+|ld|as|ar|objcopy|size)|gcc|g\+\+|cc|c\+\+|cc1plus|cc1|collect2|as|ld|cmake|ninja|git|west|make|dtc|ccache|uv|python3?)['\"]?: (?:command )?not found",
        "{0}: not found",
        "A tool was not found",
    ),
    named(
        r"\b(ninja|cmake|git|gcc|g\+\+|west|ccache) (?:executable )?not found",
        "{0}: not found",
        "A tool was not found",
    ),
    named(
        r"No such file or directory: '(?:[^']{0,300}/)?([a-z0-9-]{0,40}(?:g\+\+|gcc|cmake|ninja|git|west|python3?|ccache))'",
        "{0}: not found",
        "A tool was not found",
    ),
    fixed(r"((?:cannot|could not|failed to) execute)", "{0} a tool"),
    fixed(r"error trying to exec|\bexecvp?\b", "cannot execute a tool"),
    fixed(r"posix_spawn", "posix_spawn failed"),
    named(
        r"\b(lib[A-Za-z0-9_+.-]{1,40}\.so[0-9.]{0,12}) was not found",
        "{0} was not found",
        "A shared library was not found",
    ),
    fixed(r"(?:^|/)(?:ba|da)?sh: .{1,300}: (?:command )?not found", "A tool was not found"),
    fixed(r"Could not install package"),
    fixed(
        r"not able to compile a simple test program",
        "The compiler is not able to compile a simple test program",
    ),
    fixed(
        r"CMAKE_(?:C|CXX|ASM)_COMPILER|compiler identification is unknown|[Cc]ould not find (?:a )?(?:c\+\+ )?compiler",
        "The compiler cannot be found",
    ),
    fixed(r"build program corresponding to|CMAKE_MAKE_PROGRAM", "ninja cannot be found"),
    fixed(
        r"(file truncated|file format not recognized|file in wrong format|malformed archive)",
        "A file of an earlier build is damaged ({0})",
    ),
)
"""What is said of a tool that is missing, damaged or cannot run."""

DOWNLOAD: Final = (
    fixed(r"west update", "west update failed"),
    fixed(
        r"unable to access|'git', '(?:clone|fetch|pull|submodule)'|Could not read from remote repository",
        "git could not fetch a repository",
    ),
    fixed(r"registry metadata|package registry", "The package registry does not answer"),
    fixed(r"all mirrors", "No mirror has the download"),
    fixed(r"(Failed to (?:download|fetch)|Could not (?:download|fetch))", "{0} a file"),
    fixed(
        r"(dubious ownership|object file .{1,200} is empty|loose object|bad object|index\.lock)",
        "A clone of a repository is damaged",
    ),
    fixed(
        r"Max retries exceeded|retries exceeded|after \d+ (?:attempts|retries)",
        "Max retries exceeded",
    ),
    fixed(
        r"No solution found when resolving dependencies",
        "No solution found when resolving dependencies",
    ),
)
"""What is said when a download failed, and no line says more."""

SETUP: Final = (
    fixed(
        r"(?:idf_tools\.py|ESP-IDF.{0,60}) (?:framework )?install(?:ation)?(?: - )? ?fail",
        "The installation of the ESP-IDF tools failed",
    ),
    fixed(r"virtual environment|ensurepip", "A Python environment cannot be made"),
    fixed(r"[Ii]ncomplete(?: install)?", "An installed package is incomplete"),
    fixed(r"[Mm]anifest", "A package has no valid manifest"),
    fixed(r"UnknownPackageError|Could not find the package", "Could not find the package"),
    fixed(
        r"IncompatiblePlatform|is not compatible with PlatformIO",
        "The platform is not compatible with PlatformIO",
    ),
    fixed(
        r"(?:ESP-IDF|nRF Connect SDK|Zephyr|framework|tools?) .{0,80}fail(?:ure|ed)",
        "The tools could not be installed",
    ),
)
"""What is said when the tools cannot be set up, and no line says more."""

MEMORY: Final = (
    fixed(
        r"\b(ld|cc1plus|cc1|as|lto1|lto-wrapper) terminated with signal 9 \[Killed\]",
        "{0} terminated with signal 9 [Killed]",
    ),
    fixed(
        r"Killed signal terminated program (cc1plus|cc1|as|lto1|collect2|ld)",
        "Killed signal terminated program {0}",
    ),
    fixed(r"internal compiler error: Killed"),
    fixed(
        r"\bKilled\b|[Ss]ignal 9\b|SIGKILL|(?:Error|code[ =]|status|returncode=) ?137\b|returncode=-9\b",
        "Killed",
    ),
    fixed(r"virtual memory exhausted|memory exhausted", "memory exhausted"),
    fixed(r"[Cc]annot allocate memory|\bENOMEM\b", "Cannot allocate memory"),
    fixed(r"[Oo]ut of memory|bad_alloc|MemoryError|[Ii]nsufficient memory", "out of memory"),
)
"""What is said where memory ran out."""

CRASH: Final = (
    fixed(
        rf"internal compiler error: {_SIGNAL} (?:signal terminated program |\(program )"
        r"(cc1plus|cc1|as|collect2|lto1)",
        "internal compiler error: {0} (program {1})",
    ),
    fixed(rf"internal compiler error: {_SIGNAL}", "internal compiler error: {0}"),
    fixed(r"internal compiler error"),
    fixed(
        r"\b(ld|cc1plus|cc1|as|lto1|lto-wrapper) terminated with signal (\d{1,2})",
        "{0} terminated with signal {1}",
    ),
    fixed(
        r"[Ss]egmentation [Ff]ault|SIGSEGV|[Ss]ignal 11\b|(?:Error|code[ =]|status|returncode=) ?139\b"
        r"|returncode=-11\b",
        "Segmentation fault",
    ),
    fixed(
        r"[Ii]llegal instruction|SIGILL|(?:Error|code[ =]|status|returncode=) ?132\b|returncode=-4\b",
        "Illegal instruction",
    ),
    fixed(
        r"[Bb]us error|SIGBUS|(?:Error|code[ =]|status|returncode=) ?135\b|returncode=-7\b",
        "Bus error",
    ),
    fixed(
        r"\bAborted\b|SIGABRT|double free|corrupted size|stack smashing|free\(\): "
        r"|(?:Error|code[ =]|status|returncode=) ?134\b|returncode=-6\b",
        "Aborted",
    ),
    fixed(
        r"internal error, aborting|assertion fail|[Pp]lease (?:submit|report) (?:a|this) (?:full )?bug",
        "internal error",
    ),
)
"""What is said of a compiler that crashed."""

DISK: Final = (
    fixed(r"No space left on device"),
    fixed(r"[Dd]isk quota exceeded", "Disk quota exceeded"),
)

DEVICE: Final = (
    fixed(r"[Dd]evice closed connection"),
    fixed(r"MD5 code mismatch"),
    fixed(
        r"Wri(?:ti)?ng OTA data to flash memory failed", "Writing OTA data to flash memory failed"
    ),
    fixed(r"Finishing update failed"),
    fixed(r"Couldn't prepare flash memory for update"),
    fixed(r"Unknown error from ESP"),
    fixed(r"Unexpected response from ESP"),
    fixed(r"unsupported OTA version"),
)
"""What ESPHome says of a device that is being flashed."""
