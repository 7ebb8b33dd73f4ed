"""The signed report as one A4 page (more where it has many tracks): verdict, thumbnail, figures, timeline, limits, signature."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import WrapMode

from feedback.wording import VERDICT_WORDS, band_of
from model.aggregate import as_estimate

MARGIN, WIDTH = 15.0, 180.0  # mm
INK, SOFT, LINE = (25, 28, 33), (95, 100, 108), (205, 209, 215)
COLOURS = {"real": (20, 110, 60), "fake": (175, 30, 35), "uncertain": (140, 90, 0), "none": (85, 90, 98)}  # white on each is at least 4.5 to 1
TRACKS = ((30, 90, 170), (120, 60, 150), (0, 120, 120), (150, 80, 20))
CHART_HEIGHT = 36.0
MOST_ROWS = 12


def draw(signed: Mapping[str, Any], thumbnail: Path | None) -> bytes:
    """The PDF's bytes; the same report gives the same bytes."""
    report = signed["report"]
    pdf = FPDF(format="A4")
    pdf.set_margins(MARGIN, MARGIN)
    pdf.set_auto_page_break(True, MARGIN)
    pdf.set_title(f"Vigil report {_text(report['detection'].get('id'))}")
    pdf.set_creator("Vigil")
    pdf.set_creation_date(datetime.fromisoformat(report["made_at"]))
    pdf.embed_file(bytes=json.dumps(signed, indent=1, sort_keys=True).encode(), basename="report.json", modification_date=None)
    pdf.add_page()
    _head(pdf, report)
    _verdict(pdf, report, thumbnail)
    _facts(pdf, report)
    _timeline(pdf, report)
    _limits(pdf, report)
    _signature(pdf, signed["signature"])
    return bytes(pdf.output())


def _head(pdf: FPDF, report: Mapping[str, Any]) -> None:
    _font(pdf, 16, bold=True)
    pdf.cell(WIDTH, 8, "Report of a verdict", new_x="LMARGIN", new_y="NEXT")
    _font(pdf, 9, SOFT)
    detection = report["detection"]
    pdf.cell(WIDTH, 5, _text(f"Detection {detection.get('id')}, report made {_moment(report['made_at'])}"), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(3)


def _verdict(pdf: FPDF, report: Mapping[str, Any], thumbnail: Path | None) -> None:
    verdict, top = report["verdict"], pdf.get_y()
    word, p_fake = str(verdict.get("verdict") or "none"), verdict.get("p_fake")
    if thumbnail is not None:
        try:
            pdf.image(str(thumbnail), x=MARGIN + WIDTH - 34, y=top, w=34, h=34, keep_aspect_ratio=True)
        except (OSError, ValueError):  # a picture that cannot be drawn costs the report nothing
            thumbnail = None
    room = WIDTH - (39 if thumbnail is not None else 0)
    pdf.set_xy(MARGIN, top)
    pdf.set_fill_color(*COLOURS.get(word, COLOURS["none"]))
    _font(pdf, 20, (255, 255, 255), bold=True)
    share = f"   p_fake {as_estimate(p_fake)}" if isinstance(p_fake, int | float) else ""
    pdf.cell(room, 14, f"  {VERDICT_WORDS.get(word, word)}{share}", fill=True, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(2)
    _font(pdf, 10)
    pdf.multi_cell(room, 5, _text(verdict.get("reason") or "No further reason was given."), new_x="LMARGIN", new_y="NEXT")
    pdf.set_y(max(pdf.get_y() + 3, top + (36 if thumbnail is not None else 0)))


def _facts(pdf: FPDF, report: Mapping[str, Any]) -> None:
    media, verdict, model, detection = report["media"], report["verdict"], report["model"], report["detection"]
    file = f"{media.get('kind') or 'unknown kind'}, {int(media.get('bytes') or 0):,} bytes"
    made = f"cycle {model.get('cycle') or '-'}, from {model.get('origin') or '-'}"
    uncertain = " to ".join(_figure(end) for end in band_of(verdict) or (None,))
    rows = [
        ("SHA-256 of the file", media.get("sha256")),
        ("File", f"{file}, {media.get('frames') or 0} frames looked at, {media.get('faces') or 0} faces"),
        ("Sent, judged", f"{_moment(detection.get('created_at'))}, {_moment(detection.get('finished_at'))}"),
        ("Policy, mode", f"{detection.get('policy') or 'default'}, {detection.get('mode') or 'as the model was trained'}"),
        ("Threshold, uncertain", f"{_figure(verdict.get('threshold'))}, {uncertain}"),
        ("Novelty", _figure(verdict.get("novelty"))),
        ("Model", f"{model.get('model') or '-'} ({made}), trained {_moment(model.get('model_trained_at'))}"),
        ("SHA-256 of the model", model.get("model_sha256")),
        ("Engine", model.get("engine") or "-"),
    ]  # fmt: skip
    _heading(pdf, "Figures")
    for name, value in rows:
        _row(pdf, name, value)
    for track in report["tracks"][:MOST_ROWS]:
        span = f"{_figure(track.get('start_seconds'), 1)} to {_figure(track.get('end_seconds'), 1)} s"
        _row(pdf, _face(track, "Face"), f"p_fake {as_estimate(track['p_fake'])}, {span}")
    if len(report["tracks"]) > MOST_ROWS:
        _row(pdf, "", f"and {len(report['tracks']) - MOST_ROWS} more faces in the attached report.json")
    if report["forged"]:
        spans = [f"{_face(one)}: {_figure(one.get('start_seconds'), 1)} to {_figure(one.get('end_seconds'), 1)} s" for one in report["forged"]]
        more = f"; and {len(spans) - MOST_ROWS} more" if len(spans) > MOST_ROWS else ""
        _row(pdf, "Above the threshold", "; ".join(spans[:MOST_ROWS]) + more)


def _face(one: Mapping[str, Any], word: str = "face") -> str:
    """A face as people count and as the reason of the verdict names it: from 1."""
    track = one.get("track")
    return f"{word} {track + 1}" if isinstance(track, int) else word


def _timeline(pdf: FPDF, report: Mapping[str, Any]) -> None:
    """p_fake over time: a bar a clip, the threshold as a dashed line."""
    clips = [clip for clip in report["timeline"] if isinstance(clip.get("p_fake"), int | float)]
    end = max((float(clip.get("end_seconds") or 0) for clip in clips), default=0.0)
    if not clips or end <= 0:
        return
    if pdf.get_y() + CHART_HEIGHT + 22 > pdf.h - MARGIN:
        pdf.add_page()
    _heading(pdf, "p_fake over time")
    left, top, wide = MARGIN + 10, pdf.get_y() + 1, WIDTH - 10
    _font(pdf, 7, SOFT)
    for part in (0.0, 0.5, 1.0):
        y = top + CHART_HEIGHT * (1 - part)
        pdf.set_draw_color(*LINE)
        pdf.set_line_width(0.2)
        pdf.line(left, y, left + wide, y)
        pdf.text(MARGIN, y + 1, f"{part:.1f}")
    for part in range(5):
        seconds = f"{end * part / 4:.1f} s"
        pdf.text(left + wide * part / 4 - (pdf.get_string_width(seconds) if part == 4 else 0), top + CHART_HEIGHT + 4, seconds)
    tracks = _tracks(clips)
    for clip in clips:
        start, stop = float(clip.get("start_seconds") or 0), float(clip.get("end_seconds") or 0)
        x, y = left + wide * start / end, top + CHART_HEIGHT * (1 - min(1.0, max(0.0, float(clip["p_fake"]))))
        pdf.set_draw_color(*TRACKS[tracks.index(clip.get("track")) % len(TRACKS)])
        pdf.set_line_width(1.1)
        pdf.line(x, y, max(x + 0.6, left + wide * stop / end), y)
    for track in tracks[:MOST_ROWS]:  # named where it begins: colour alone says nothing
        first = next(clip for clip in clips if clip.get("track") == track)
        x = left + wide * float(first.get("start_seconds") or 0) / end
        pdf.text(x + 1, top + CHART_HEIGHT * (1 - min(1.0, max(0.0, float(first["p_fake"])))) - 1.2, _text(_face({"track": track})))
    threshold = report["verdict"].get("threshold")
    if isinstance(threshold, int | float):
        y = top + CHART_HEIGHT * (1 - min(1.0, max(0.0, float(threshold))))
        pdf.set_draw_color(*COLOURS["fake"])
        pdf.set_line_width(0.3)
        pdf.set_dash_pattern(dash=2, gap=1.2)
        pdf.line(left, y, left + wide, y)
        pdf.set_dash_pattern()
    pdf.set_xy(MARGIN, top + CHART_HEIGHT + 6)
    _font(pdf, 8, SOFT)
    said = "A bar is a clip of a face. Dashed: the threshold; above it a clip looks forged."
    pdf.multi_cell(WIDTH, 4, said, new_x="LMARGIN", new_y="NEXT")
    pdf.set_line_width(0.2)


def _limits(pdf: FPDF, report: Mapping[str, Any]) -> None:
    _heading(pdf, "What this does not show")
    _font(pdf, 9)
    for sentence in report["limits"]:
        pdf.multi_cell(WIDTH, 4.6, _text(f"- {sentence}"), align="L", new_x="LMARGIN", new_y="NEXT")


def _signature(pdf: FPDF, signature: Mapping[str, Any]) -> None:
    if pdf.get_y() + 30 > pdf.h - MARGIN:
        pdf.add_page()
    _heading(pdf, "Signature")
    for name in ("algorithm", "key", "value"):
        _row(pdf, name.capitalize(), signature.get(name), mono=True)
    _font(pdf, 8, SOFT)
    pdf.ln(1)
    said = "The signature is that of the attached report.json (`vigil verify-report report.json`); this page shows its contents."
    pdf.multi_cell(WIDTH, 4, said, new_x="LMARGIN", new_y="NEXT")


def _heading(pdf: FPDF, text: str) -> None:
    pdf.ln(3)
    _font(pdf, 11, bold=True)
    pdf.cell(WIDTH, 6, text, new_x="LMARGIN", new_y="NEXT")
    pdf.set_draw_color(*LINE)
    pdf.line(MARGIN, pdf.get_y(), MARGIN + WIDTH, pdf.get_y())
    pdf.ln(1.5)


def _row(pdf: FPDF, name: str, value: Any, mono: bool = False) -> None:
    _font(pdf, 9, SOFT)
    pdf.cell(42, 4.8, _text(name))
    _font(pdf, 8 if mono else 9, mono=mono or "SHA" in name)
    text, wrap = _text(value if value not in (None, "") else "-"), WrapMode.CHAR if mono else WrapMode.WORD
    pdf.multi_cell(WIDTH - 42, 4.8, text, align="L", wrapmode=wrap, new_x="LMARGIN", new_y="NEXT")


def _font(pdf: FPDF, size: float, colour: tuple[int, int, int] = INK, bold: bool = False, mono: bool = False) -> None:
    pdf.set_font("Courier" if mono else "Helvetica", "B" if bold else "", size)
    pdf.set_text_color(*colour)


def _tracks(clips: Sequence[Mapping[str, Any]]) -> list[Any]:
    return list(dict.fromkeys(clip.get("track") for clip in clips))


def _moment(value: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(value)):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return "-"


def _figure(value: Any, digits: int = 3) -> str:
    return f"{float(value):.{digits}f}" if isinstance(value, int | float) and not isinstance(value, bool) else "-"


def _text(value: Any) -> str:
    """In the letters that a PDF's own fonts have."""
    return str(value).encode("latin-1", "replace").decode("latin-1")
