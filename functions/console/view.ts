// The base of every part of the page: typed elements, values that notify their readers, and a clock that ticks while
// the page is visible.
import { type ComponentChildren, h, type VNode } from 'preact';
import { useEffect, useState } from 'preact/hooks';

/** An event of a form field, as the page's listeners see it. */
type FieldEvent = Event & { readonly currentTarget: HTMLInputElement };

/** Props of an element: attributes by their names in HTML, and the listeners that this page uses. */
export interface Props {
  readonly [attribute: string]: unknown;
  readonly onInput?: (event: FieldEvent) => void;
  readonly onChange?: (event: FieldEvent) => void;
  readonly onKeyDown?: (event: KeyboardEvent) => void;
  readonly onPaste?: (event: ClipboardEvent) => void;
  readonly onScroll?: (event: FieldEvent) => void;
  readonly onSubmit?: (event: SubmitEvent) => void;
}

/**
 * An HTML element. Texts are never parsed as markup. (Preact's own table of every tag's props costs the
 * compiler minutes.)
 */
export function el(tag: string, props: Props | null, ...children: ComponentChildren[]): VNode {
  return h(tag, props, ...children);
}

/** A value that changes over time. */
export interface Value<T> {
  readonly current: T;
  set(next: T): void;
  /** Calls `listener` after every change until the returned function is called. */
  subscribe(listener: () => void): () => void;
}

export function createValue<T>(initial: T): Value<T> {
  let current = initial;
  const listeners = new Set<() => void>();
  return {
    get current() {
      return current;
    },
    set(next) {
      if (Object.is(next, current)) return;
      current = next;
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** The current state of a value; the component is rendered again when it changes. */
export function useValue<T>(value: Value<T>): T {
  const [, redraw] = useState(0);
  useEffect(() => {
    redraw((count) => count + 1);
    return value.subscribe(() => redraw((count) => count + 1));
  }, [value]);
  return value.current;
}

/** Epoch milliseconds, again every second while `active`. */
export function useNow(active: boolean): number {
  const [nowMs, setNowMs] = useState(Date.now());
  useEffect(() => {
    if (!active) return;
    setNowMs(Date.now());
    const timer = setInterval(() => setNowMs(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, [active]);
  return nowMs;
}

/** `12 s`, `3 min`, `2 h`: for countdowns and ages. */
export function toSpan(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1_000));
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7_200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3_600)} h`;
}
