"""Translate PTX, as NVVM writes it for our kernels, to C: a statement per instruction.

`driver.c` runs the C. Registers are unsigned integers that each instruction interprets by its type.
Labels and branches are kept. An unknown instruction is an error. Names are those of NVIDIA's "PTX
ISA", version 9.
"""

from __future__ import annotations

import re
from collections.abc import Callable

PRELUDE = """\
#include <math.h>
#include <string.h>
#include "thread.h"
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int8_t s8; typedef int16_t s16; typedef int32_t s32; typedef int64_t s64;
typedef u8 b8; typedef u16 b16; typedef u32 b32; typedef u64 b64; typedef u8 pred;
typedef float f32; typedef double f64;
static inline f64 to_f64(u64 x) { f64 y; memcpy(&y, &x, 8); return y; }
static inline u64 of_f64(f64 x) { u64 y; memcpy(&y, &x, 8); return y; }
static inline f32 to_f32(u32 x) { f32 y; memcpy(&y, &x, 4); return y; }
static inline u32 of_f32(f32 x) { u32 y; memcpy(&y, &x, 4); return y; }
static inline u64 insert_bits(u64 from, u64 into, u32 at, u32 count, int width) {
  if (at >= (u32)width || !count) return into;
  u64 mask = (count >= 64 ? ~0ull : (1ull << count) - 1) << at;
  return (into & ~mask) | (from << at & mask);
}
static inline f64 rough_reciprocal(f64 x) { return to_f64(of_f64(1.0 / x) & ~0xFFFFFFFFull); }
"""

FUNCTION = (
    r"^\.(?:visible \.|weak \.|extern \.)*(entry|func)\s*(\([^)]*\))?\s*(\S+?)\s*\(([^)]*)\)"
    r"\s*(?:\.\w+ [^\n;{]*\s*)*([{;])"
)
DECLARATION = r"\.(local|param) (?:\.align (\d+) )?\.b(\d+)\s+(\w+)(?:\[(\d+)\])?$"
CONSTANT = r"\.(?:global|const) \.align (\d+) \.(b8|[usbf]\d+) (\w+)(\[\d+\])? = ?\{?([^;}]*)"
SPECIAL = {
    f"%{name}.{axis}": f"T->{name}[{k}]"
    for name in ("tid", "ntid", "ctaid", "nctaid")
    for k, axis in enumerate("xyz")
}
COMPARISONS = {
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "lo": "<", "ls": "<=", "hi": ">", "hs": ">=",
}  # fmt: skip
BINARY = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
ROUNDING = {"rn", "rz", "rm", "rp", "rzi", "rni", "rmi", "rpi", "approx", "ftz", "sat"}
# Modifiers without effect here, where all threads share one memory and arithmetic is exact.
IGNORED = {"volatile", "relaxed", "weak", "nc", "sync", "aligned", "uni", "gpu", "sys", "cta"}


class Module:
    """The C translation of a module of PTX."""

    def __init__(self, ptx: str) -> None:
        self.lines = [re.sub(r"//.*", "", line).strip() for line in ptx.splitlines()]
        self.shared: dict[str, int] = {}
        self.shared_in_use = bytearray()
        self.names: dict[str, str] = {}
        self.entries: list[tuple[str, str, list[int]]] = []

    def translate(self) -> str:
        text = "\n".join(self.lines)
        for match in re.finditer(r"\.shared \.align (\d+) \.b8 (\S+)\[(\d+)\];", text):
            self._share(match[2], int(match[1]), int(match[3]))
        for match in re.finditer(CONSTANT, text):
            raise NotImplementedError(f"a variable with values: {match[0][:80]}")
        functions, declared = [], []
        for match in re.finditer(FUNCTION, text, re.M):
            kind, results, name, parameters, opens = match.groups()
            c_name = self._name(name)
            widths = [int(width) // 8 for width in re.findall(r"\.param \.\w(\d+)", parameters)]
            names = re.findall(r"\.param \.\w+ (\S+?),?\s*$", parameters, re.M)
            if kind == "func":
                declared.append(f"static void {c_name}(thread *, char *result, char **);\n")
            if opens == "{":
                line = text.count("\n", 0, match.end())
                body = self._body(line, kind == "entry", results, names, widths)
                arguments = "" if kind == "entry" else ", char *result, char **arguments"
                functions.append(f"static void {c_name}(thread *T{arguments}) {{\n{body}}}\n")
            if kind == "entry":
                self.entries.append((name, c_name, widths))
        return "".join([PRELUDE, *declared, *functions, self._table()])

    def _share(self, name: str, align: int, size: int) -> None:
        """Declare a variable, followed by guard memory that must not be accessed."""
        start = -(-(len(self.shared_in_use) + 16) // max(align, 16)) * max(align, 16)
        self.shared[name] = start
        self.shared_in_use += bytes(start - len(self.shared_in_use)) + b"\1" * size

    def _table(self) -> str:
        size = len(self.shared_in_use)
        in_use = ",".join(map(str, self.shared_in_use)) or "0"
        lines = [f"static const unsigned char in_use[] = {{{in_use}}};\n"]
        for _, c_name, widths in self.entries:
            sizes = ",".join(map(str, [*widths, 0]))
            lines.append(f"static const int sizes_{c_name}[] = {{{sizes}}};\n")
        rows = "".join(
            f'  {{"{name}", {c_name}, sizes_{c_name}, {size}, in_use}},\n'
            for name, c_name, _ in self.entries
        )
        return "".join(lines) + f"const kernel kernels[] = {{\n{rows}  {{0}}\n}};\n"

    def _name(self, name: str) -> str:
        return self.names.setdefault(name, f"f{len(self.names)}")

    def _body(self, line: int, is_entry: bool, results, names: list[str], widths: list[int]) -> str:
        function = Function(self)
        if is_entry:
            at = 0
            for name, width in zip(names, widths, strict=True):
                at = -(-at // width) * width
                function.symbols[name] = f"(T->parameters + {at})"
                at += width
        else:
            for k, name in enumerate(names):
                function.symbols[name] = f"arguments[{k}]"
            for name in re.findall(r"\.param \.\w+ (\w+)", results or ""):
                function.symbols[name] = "result"
        depth, pending = 1, ""
        while depth:
            line += 1
            pending = f"{pending} {self.lines[line]}".strip()
            while pending:
                piece, pending = _statement(pending)
                if piece is None:
                    break
                depth += {"{": 1, "}": -1}.get(piece, 0)
                if depth == 0:
                    break
                function.add(piece, line + 1)
        return function.code()


def _statement(text: str) -> tuple[str | None, str]:
    """The first statement of a text, and the rest; None if the statement is not complete."""
    if text[0] in "{}":
        return text[0], text[1:].strip()
    label = re.match(r"(\$?\w+):", text)
    if label:
        return label[0], text[label.end() :].strip()
    end = text.find(";")
    if end < 0:
        return None, text
    return text[:end].strip(), text[end + 1 :].strip()


class Function:
    """The statements of one function."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.symbols: dict[str, str] = {}
        self.registers: dict[str, str] = {}
        self.declarations: list[str] = []
        self.statements: list[str] = []
        self.line = 0

    def code(self) -> str:
        return "".join(self.declarations) + "".join(self.statements) + "  return;\n"

    def add(self, text: str, line: int) -> None:
        self.line = line
        if text in "{}":
            return
        if text.endswith(":"):
            self.statements.append(f"{self._label(text[:-1])}:;\n")
            return
        if text.startswith("."):
            self._declare(text)
            return
        guard = re.match(r"@(!?)(%\w+)\s+", text)
        condition = ""
        if guard:
            text = text[guard.end() :]
            condition = f"if ({guard[1]}{self._register(guard[2])}) "
        name, _, rest = text.partition(" ")
        body = (
            self._call(rest) if name.startswith("call") else self._instruction(name, rest.strip())
        )
        self.statements.append(f"  {condition}{{ {body} }}\n")

    def _declare(self, text: str) -> None:
        if match := re.match(r"\.reg \.(\w+)\s+(%\w+)(?:<(\d+)>)?$", text):
            kind, name, count = match.groups()
            width = kind if kind == "pred" else f"u{kind[1:]}"
            names = [f"{name}{k}" for k in range(int(count))] if count else [name]
            for each in names:
                self._new_register(each, width)
        elif match := re.match(r"\.reg \.(\w+) (\w+)$", text):
            return  # a temporary of calls that is never used
        elif match := re.match(DECLARATION, text):
            _, align, bits, name, count = match.groups()
            size = int(count or 1) * int(bits) // 8
            fresh = f"v{len(self.declarations)}"
            self.declarations.append(
                f"  char {fresh}[{size}] __attribute__((aligned({align or 8})));\n"
            )
            if match[1] == "local":
                self.declarations.append(f"  memset({fresh}, 0xFF, {size});\n")
            self.symbols[name] = fresh
        elif not re.match(r"\.(loc|pragma|file|maxn|minn|shared)", text):
            raise NotImplementedError(text)

    def _new_register(self, name: str, width: str) -> None:
        if name in self.registers:
            return
        fresh = "r" + re.sub(r"\W", "_", name)
        self.registers[name] = fresh
        self.declarations.append(f"  {width} {fresh} = 0;\n")

    def _register(self, name: str) -> str:
        return self.registers[name]

    def _label(self, name: str) -> str:
        return "L" + re.sub(r"\W", "_", name)

    # Operands

    def _bits(self, text: str) -> str:
        """An operand as an unsigned integer."""
        if text in SPECIAL:
            return SPECIAL[text]
        if text.startswith("%"):
            return self._register(text)
        if text.startswith("0d"):
            return f"0x{text[2:]}ull"
        if text.startswith(("0f", "0F")):
            return f"0x{text[2:]}u"
        if text in self.module.shared:
            return str(self.module.shared[text])
        if text in self.symbols:
            return f"(u64){self.symbols[text]}"
        return (
            f"({int(text.rstrip('U'), 0)}ll)" if int(text.rstrip("U"), 0) < 2**63 else f"{text}ull"
        )

    def _value(self, text: str, kind: str) -> str:
        """An operand as a value of its type."""
        bits = self._bits(text)
        if kind in ("f64", "f32"):
            return f"to_{kind}({bits})"
        return f"({kind}){bits}"

    def _store(self, register: str, value: str, kind: str) -> str:
        value = f"of_{kind}({value})" if kind in ("f64", "f32") else f"({kind})({value})"
        return f"{self._register(register)} = {value};"

    def _address(self, text: str) -> tuple[str, str]:
        match = re.match(r"\[\s*([^+\]\s]+)\s*(?:\+\s*(-?\d+))?\s*\]$", text)
        if not match:
            raise NotImplementedError(f"address {text}")
        return self._bits(match[1]) if match[1] not in self.symbols else match[1], match[2] or "0"

    # Instructions

    def _instruction(self, name: str, rest: str) -> str:
        parts = name.split(".")
        handler: Callable | None = getattr(self, f"_{parts[0]}", None)
        modifiers = [part for part in parts[1:] if part not in IGNORED]
        operands = _operands(rest)
        if handler is not None and parts[0] not in BINARY:
            return handler(modifiers, operands)
        if parts[0] in BINARY:
            return self._binary(parts[0], modifiers, operands)
        raise NotImplementedError(f"{name} {rest}")

    def _binary(self, name: str, modifiers: list[str], operands: list[str]) -> str:
        kind = modifiers[-1]
        exact = [m for m in modifiers[:-1] if m not in ("rn", "lo", "wide", "hi")]
        if exact:
            raise NotImplementedError(f"{name}.{modifiers}")
        out, a, b = operands
        if name in ("div", "rem") and kind[0] in "su" and b.lstrip("-").isdigit() is False:
            guard = f"if (!({self._value(b, kind)})) ptx_trap(T, {self.line}); "
        else:
            guard = ""
        if kind == "pred":
            return f"{self._register(out)} = {self._bits(a)} {BINARY[name]} {self._bits(b)};"
        if "wide" in modifiers:
            wide = f"{kind[0]}{2 * int(kind[1:])}"
            return self._store(
                out, f"({wide}){self._value(a, kind)} * ({wide}){self._value(b, kind)}", wide
            )
        if "hi" in modifiers:
            wide = {"s32": "s64", "u32": "u64", "s64": "__int128", "u64": "unsigned __int128"}[kind]
            product = f"(({wide}){self._value(a, kind)} * ({wide}){self._value(b, kind)})"
            return self._store(out, f"{product} >> {kind[1:]}", kind)
        if kind[0] in "su" and name in ("add", "sub", "mul"):
            kind = f"u{kind[1:]}"  # signed overflow is undefined in C
        return guard + self._store(
            out, f"{self._value(a, kind)} {BINARY[name]} {self._value(b, kind)}", kind
        )

    def _mad(self, modifiers, operands):
        kind, (out, a, b, c) = modifiers[-1], operands
        if "wide" in modifiers:
            wide = f"{kind[0]}{2 * int(kind[1:])}"
            product = f"({wide}){self._value(a, kind)} * ({wide}){self._value(b, kind)}"
            return self._store(out, f"(u64)({product}) + {self._value(c, wide)}", wide)
        kind = f"u{kind[1:]}"
        return self._store(
            out, f"{self._value(a, kind)} * {self._value(b, kind)} + {self._value(c, kind)}", kind
        )

    def _fma(self, modifiers, operands):
        kind, (out, a, b, c) = modifiers[-1], operands
        if modifiers[:-1] != ["rn"]:
            raise NotImplementedError(f"fma.{modifiers}")
        values = ", ".join(self._value(each, kind) for each in (a, b, c))
        return self._store(out, f"{'fma' if kind == 'f64' else 'fmaf'}({values})", kind)

    def _neg(self, modifiers, operands):
        kind, (out, a) = modifiers[-1], operands
        return self._store(out, f"-{self._value(a, kind)}", kind)

    def _not(self, modifiers, operands):
        kind, (out, a) = modifiers[-1], operands
        if kind == "pred":
            return f"{self._register(out)} = !{self._bits(a)};"
        return self._store(out, f"~{self._value(a, kind)}", kind)

    def _abs(self, modifiers, operands):
        kind, (out, a) = modifiers[-1], operands
        value = self._value(a, kind)
        if kind[0] == "f":
            return self._store(out, f"{'fabs' if kind == 'f64' else 'fabsf'}({value})", kind)
        return self._store(out, f"{value} < 0 ? -{value} : {value}", kind)

    def _sqrt(self, modifiers, operands):
        if modifiers != ["rn", "f64"]:
            raise NotImplementedError(f"sqrt.{modifiers}")
        return self._store(operands[0], f"sqrt({self._value(operands[1], 'f64')})", "f64")

    def _rcp(self, modifiers, operands):
        value = self._value(operands[1], "f64")
        if modifiers == ["rn", "f64"]:
            return self._store(operands[0], f"1.0 / {value}", "f64")
        if modifiers == ["approx", "ftz", "f64"]:
            return self._store(operands[0], f"rough_reciprocal({value})", "f64")
        raise NotImplementedError(f"rcp.{modifiers}")

    def _min(self, modifiers, operands, sign="<"):
        kind, (out, a, b) = modifiers[-1], operands
        a, b = self._value(a, kind), self._value(b, kind)
        if kind[0] == "f":
            function = ("fmin" if sign == "<" else "fmax") + ("f" if kind == "f32" else "")
            return self._store(out, f"{function}({a}, {b})", kind)
        return self._store(out, f"{a} {sign} {b} ? {a} : {b}", kind)

    def _max(self, modifiers, operands):
        return self._min(modifiers, operands, ">")

    def _shl(self, modifiers, operands, sign="<<"):
        kind, (out, a, b) = modifiers[-1], operands
        kind = f"u{kind[1:]}" if kind[0] == "b" else kind
        width, count = int(kind[1:]), f"(u32){self._bits(b)}"
        value = self._value(a, kind)
        beyond = f"{value} < 0 ? -1 : 0" if kind[0] == "s" else "0"
        return self._store(out, f"{count} < {width} ? {value} {sign} ({count}) : ({beyond})", kind)

    def _shr(self, modifiers, operands):
        return self._shl(modifiers, operands, ">>")

    def _bfi(self, modifiers, operands):
        kind, (out, a, b, at, count) = modifiers[-1], operands
        value = (
            f"insert_bits({self._value(a, kind)}, {self._value(b, kind)}, "
            f"{self._bits(at)} & 255, {self._bits(count)} & 255, {kind[1:]})"
        )
        return self._store(out, value, kind)

    def _setp(self, modifiers, operands):
        comparison, kind = modifiers[0], modifiers[-1]
        if len(modifiers) != 2 or len(operands) != 3:
            raise NotImplementedError(f"setp.{modifiers} {operands}")
        a, b = (self._value(each, kind) for each in operands[1:])
        if kind[0] == "f" and comparison not in COMPARISONS:
            if comparison in ("num", "nan"):
                value = f"{a} != {a} || {b} != {b}"
                value = value if comparison == "nan" else f"!({value})"
            else:  # equ, neu, ltu ...: true if either is NaN
                value = f"{a} != {a} || {b} != {b} || {a} {COMPARISONS[comparison[:-1]]} {b}"
        else:
            value = f"{a} {COMPARISONS[comparison]} {b}"
            if kind[0] == "f" and comparison == "ne":  # ordered
                value = f"({value}) && {a} == {a} && {b} == {b}"
        return f"{self._register(operands[0])} = {value};"

    def _selp(self, modifiers, operands):
        out, a, b, p = operands
        kind = f"u{modifiers[-1][1:]}"
        a, b = self._value(a, kind), self._value(b, kind)
        return f"{self._register(out)} = {self._bits(p)} ? {a} : {b};"

    def _mov(self, modifiers, operands):
        kind, (out, a) = modifiers[-1], operands
        if kind == "pred":
            return f"{self._register(out)} = {self._bits(a)};"
        half = int(kind[1:]) // 2
        if out.startswith("{"):
            low, high = _operands(out[1:-1])
            halves = [f"{self._bits(a)}", f"{self._bits(a)} >> {half}"]
            return " ".join(
                f"{self._register(each)} = (u{half})({value});"
                for each, value in zip((low, high), halves, strict=True)
                if each != "_"
            )
        if a.startswith("{"):
            low, high = (self._value(each, f"u{half}") for each in _operands(a[1:-1]))
            return f"{self._register(out)} = (u{2 * half}){low} | (u{2 * half}){high} << {half};"
        return f"{self._register(out)} = (u{kind[1:]}){self._bits(a)};"

    def _cvt(self, modifiers, operands):
        to, kind = modifiers[-2], modifiers[-1]
        how = modifiers[:-2]
        value = self._value(operands[1], kind)
        if how == ["rzi"] and to == kind == "f64":
            value = f"trunc({value})"
        elif how == ["rni"] and to == kind == "f64":
            value = f"rint({value})"
        elif not (how in ([], ["rn"]) or (how == ["rzi"] and kind[0] == "f" and to[0] in "su")):
            raise NotImplementedError(f"cvt.{modifiers}")
        return self._store(operands[0], f"({to}){value}", to)

    def _cvta(self, modifiers, operands):
        if "shared" in modifiers:
            raise NotImplementedError("generic addresses of shared memory")
        return f"{self._register(operands[0])} = {self._bits(operands[1])};"

    def _access(self, modifiers, address, count: int, writes: int) -> tuple[str, str]:
        """Code that puts the address in `at`, and the type of the number there."""
        space, kind = modifiers[0], modifiers[-1]
        size = count * (int(kind[1:]) // 8)
        base, offset = self._address(address)
        if space in ("param", "local"):
            if base in self.symbols:
                base = f"(u64){self.symbols[base]}"
            return f"char *at = (char *)({base} + ({offset}));", kind
        if space not in ("global", "shared"):
            raise NotImplementedError(f"memory {modifiers}")
        place = f"ptx_{space}(T, (u64){base} + ({offset}), {size}, {writes}, {self.line})"
        return f"char *at = {place};", kind

    def _ld(self, modifiers, operands):
        outs = _operands(operands[0].strip("{}"))
        code, kind = self._access(modifiers, operands[1], len(outs), 0)
        width = int(kind[1:])
        loads = " ".join(
            f"{{ {kind if kind[0] == 's' else f'u{width}'} x; memcpy(&x, at + {k * width // 8}, "
            f"{width // 8}); {self._register(out)} = x; }}"
            for k, out in enumerate(outs)
        )
        return f"{code} {loads}"

    def _st(self, modifiers, operands):
        values = _operands(operands[1].strip("{}"))
        code, kind = self._access(modifiers, operands[0], len(values), 1)
        width = int(kind[1:])
        stores = " ".join(
            f"{{ u{width} x = {self._bits(value)}; "
            f"memcpy(at + {k * width // 8}, &x, {width // 8}); }}"
            for k, value in enumerate(values)
        )
        return f"{code} {stores}"

    def _bra(self, modifiers, operands):
        return f"goto {self._label(operands[0])};"

    def _ret(self, modifiers, operands):
        return "return;"

    _exit = _ret

    def _trap(self, modifiers, operands):
        return f"ptx_trap(T, {self.line});"

    def _bar(self, modifiers, operands):
        if modifiers[:1] == ["warp"]:
            return f"ptx_warp_barrier(T, {self._value(operands[0], 'u32')});"
        if operands != ["0"]:
            raise NotImplementedError(f"bar {operands}")
        return "ptx_block_barrier(T);"

    def _membar(self, modifiers, operands):
        return ";"

    _fence = _membar

    def _shfl(self, modifiers, operands):
        if modifiers != ["bfly", "b32"]:
            raise NotImplementedError(f"shfl.{modifiers}")
        out, a, offset, clamp, mask = operands
        out, _, inside = out.partition("|")
        values = ", ".join(self._value(each, "u32") for each in (a, offset, clamp, mask))
        code = f"{self._register(out)} = ptx_shuffle_xor(T, {values});"
        return code + (f" {self._register(inside)} = 1;" if inside else "")

    def _call(self, rest: str) -> str:
        match = re.match(r"(?:\((\w+)\),)?\s*(\w+),\s*\(([^)]*)\)$", rest.strip())
        if not match:
            raise NotImplementedError(f"call {rest}")
        result, name, arguments = match.groups()
        out = self.symbols[result] if result else "0"
        if name == "cudaCGGetIntrinsicHandle":
            return f"memset({out}, 0, 8);"
        if name == "cudaCGSynchronize":
            return f"ptx_grid_barrier(T); memset({out}, 0, 4);"
        values = ", ".join(self.symbols[each] for each in _operands(arguments)) or "0"
        return f"{self.module._name(name)}(T, {out}, (char *[]){{{values}}});"


def _operands(text: str) -> list[str]:
    """The parts between commas, except for commas within braces."""
    return [
        part.strip()
        for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", text)
        if part.strip()
    ]


def translate(ptx: str) -> str:
    """Translate a module of PTX to C."""
    return Module(ptx).translate()
