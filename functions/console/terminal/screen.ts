// xterm.js under a policy that allows no inline styles: it makes style elements and style attributes, which become
// constructed stylesheets and CSSOM here. The policy allows both without 'unsafe-inline'.
import { Terminal } from '@xterm/xterm';
import type { Screen } from './terminal-session.ts';

const SCROLLBACK = 5_000;
let adapted = false;

export interface ScreenOptions {
  readonly onInput: (data: string) => void;
  readonly onResize: () => void;
}

/** Opens a terminal that fills `host` and follows its size. */
export function openScreen(host: HTMLElement, { onInput, onResize }: ScreenOptions): Screen & { close(): void } {
  adaptStyles();
  const terminal = new Terminal({
    scrollback: SCROLLBACK,
    cursorBlink: false,
    fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
    fontSize: 14,
    screenReaderMode: true,
    theme: { background: '#14171c', foreground: '#e6e8eb', cursor: '#8ab4f8' },
  });
  terminal.open(host);
  fillHost();
  terminal.onData(onInput);
  terminal.onResize(onResize);
  // The shell receives Tab, so keyboard users leave the terminal with another key.
  terminal.attachCustomKeyEventHandler((event) => {
    if (!(event.ctrlKey && event.shiftKey && event.code === 'KeyE')) return true;
    terminal.blur();
    document.getElementById('content')?.focus();
    return false;
  });
  const observer = new ResizeObserver(fillHost);
  observer.observe(host);

  /** Computes columns and rows from the size of a drawn cell and of the host. */
  function fillHost(): void {
    const drawn = host.querySelector('.xterm-screen')?.getBoundingClientRect();
    if (drawn === undefined || drawn.width === 0 || host.clientWidth === 0) return;
    const cols = Math.floor((host.clientWidth - 20) / (drawn.width / terminal.cols));
    const rows = Math.floor(host.clientHeight / (drawn.height / terminal.rows));
    if (cols >= 2 && rows >= 2) terminal.resize(Math.min(cols, 1_000), Math.min(rows, 1_000));
  }

  return {
    get size() {
      return { cols: terminal.cols, rows: terminal.rows };
    },
    write: (text) => terminal.write(text),
    reset: () => terminal.reset(),
    focus: () => terminal.focus(),
    close() {
      observer.disconnect();
      terminal.dispose();
    },
  };
}

/** Runs once per page. Only xterm.js makes style elements here. */
function adaptStyles(): void {
  if (adapted) return;
  adapted = true;
  const create = document.createElement.bind(document);
  Object.defineProperty(document, 'createElement', {
    configurable: true,
    value: (name: string, options?: ElementCreationOptions): HTMLElement =>
      name.toLowerCase() === 'style' ? createStyleStandIn(create('template')) : create(name, options),
  });
  const { setAttribute } = Element.prototype;
  Object.defineProperty(HTMLElement.prototype, 'setAttribute', {
    configurable: true,
    value(this: HTMLElement, name: string, text: string): void {
      if (name === 'style') this.style.cssText = text;
      else setAttribute.call(this, name, text);
    },
  });
}

/** An inert element whose text becomes a stylesheet of the document until the element is removed. */
function createStyleStandIn(element: HTMLElement): HTMLElement {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, 'textContent', { set: (text: string) => sheet.replaceSync(text) });
  const remove = element.remove.bind(element);
  Object.defineProperty(element, 'remove', {
    value: () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
      remove();
    },
  });
  return element;
}
