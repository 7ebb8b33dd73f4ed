"""How the console looks: its style sheet, its icons, and the choice of light or dark that the browser remembers."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
STYLE = FOLDER / "console.css"

# 24 x 24, drawn by stroke in the colour of the text around them.
_PATHS = {
    "real": '<circle cx="12" cy="12" r="9"/><path d="M8 12.5l2.8 2.8L16 9.5"/>',
    "fake": '<path d="M8 3h8l5 5v8l-5 5H8l-5-5V8z"/><path d="M9 9l6 6M15 9l-6 6"/>',
    "uncertain": '<path d="M12 3l9.5 17h-19z"/><path d="M12 10v4.5M12 17v.5"/>',
    "none": '<circle cx="12" cy="12" r="9"/><path d="M8 12h8"/>',
    "waiting": '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3 2"/>',
    "unsure": '<circle cx="12" cy="12" r="9"/><path d="M9.5 9.5a2.5 2.5 0 1 1 3.4 2.3c-.6.3-.9.8-.9 1.7M12 16.5v.3"/>',
    "upload": '<path d="M12 16V4M7 9l5-5 5 5M4 16v3a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-3"/>',
    "mark": '<path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z"/><path d="M8.5 12l2.5 2.5 4.5-5"/>',
    "theme": '<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5v17a8.5 8.5 0 0 0 0-17z" fill="currentColor"/>',
    "menu": '<path d="M4 7h16M4 12h16M4 17h16"/>',
    "empty": '<path d="M4 13l2.5-7h11L20 13v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1z"/><path d="M4 13h4.5l1.5 2.5h4l1.5-2.5H20"/>',
}
FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#2f6bff" stroke-width="2" '
    f'stroke-linecap="round" stroke-linejoin="round">{_PATHS["mark"]}</svg>'
)


def icon(name: str) -> str:
    """An icon as SVG text. It is hidden from screen readers: the word beside it says the same."""
    return (
        '<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" '
        f'stroke-linejoin="round" aria-hidden="true" focusable="false">{_PATHS[name]}</svg>'
    )


def head(prefix: str) -> str:
    """What every page has in its head: the theme before the first paint, then the style sheet."""
    version = hashlib.sha256(STYLE.read_bytes()).hexdigest()[:12]
    return f'<script>{_THEME}</script><link rel="stylesheet" href="{prefix}/assets/console.css?v={version}">'


# auto, light or dark; the library has a switch of its own, which follows.
_THEME = """
window.vigilTheme = {
  choices: ['auto', 'light', 'dark'],
  get() { try { return localStorage.getItem('vigil-theme') || 'auto' } catch { return 'auto' } },
  apply() {
    const choice = this.get();
    const dark = choice === 'dark' || (choice === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches);
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
    document.documentElement.style.colorScheme = dark ? 'dark' : 'light';
    if (window.Quasar) Quasar.Dark.set(dark);
    for (const word of document.querySelectorAll('[data-theme-word]')) word.textContent = choice;
  },
  next() {
    const choice = this.choices[(this.choices.indexOf(this.get()) + 1) % 3];
    try { localStorage.setItem('vigil-theme', choice) } catch {}
    this.apply();
  },
};
vigilTheme.apply();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => vigilTheme.apply());
"""
