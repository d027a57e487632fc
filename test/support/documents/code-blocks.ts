// Finds the fenced code blocks of a Markdown text, with the comments in front of one that select how it runs: `<!--
// run: cloud -->`. GitHub does not show comments. Refuses fences that a Markdown renderer would read differently.

export interface CodeBlock {
  /** What follows the opening fence; empty when nothing does. */
  readonly language: string;
  readonly text: string;
  /** The heading above it. */
  readonly heading: string;
  /** Of the opening fence, from 1. */
  readonly line: number;
  /** By name: `run`, `file`, `needs`. */
  readonly options: ReadonlyMap<string, string>;
}

/** Throws for a fence that is not closed, is indented, or is made of tildes. */
export function readCodeBlocks(markdown: string): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let open: { language: string; line: number; options: Map<string, string>; lines: string[] } | undefined;
  let heading = '';
  let options = new Map<string, string>();
  for (const [index, line] of markdown.split('\n').entries()) {
    if (open !== undefined) {
      if (line !== '```') {
        open.lines.push(line);
        continue;
      }
      const { lines, ...block } = open;
      blocks.push({ ...block, heading, text: `${lines.join('\n')}\n` });
      open = undefined;
      options = new Map();
      continue;
    }
    if (/^\s+```|^\s*~~~/.test(line))
      throw new Error(`line ${index + 1}: a fence starts a line and is made of backticks`);
    const fence = /^```(\S*)$/.exec(line);
    const comment = /^<!-- (\w+): (\S+) -->$/.exec(line);
    if (fence === null && line.startsWith('```')) throw new Error(`line ${index + 1}: a fence says its language only`);
    if (fence !== null) open = { language: fence[1] ?? '', line: index + 1, options, lines: [] };
    else if (comment !== null) options.set(comment[1] ?? '', comment[2] ?? '');
    else options = new Map();
    heading = /^#+ (.+)$/.exec(line)?.[1] ?? heading;
  }
  if (open !== undefined) throw new Error(`line ${open.line}: the fence is not closed`);
  return blocks;
}

/** How a block is tested; the suites are named after the kind. */
export type Kind = 'start' | 'shell' | 'cloud' | 'keys' | 'method' | 'typescript' | 'react' | 'python' | 'picture';

const KINDS: Readonly<Record<string, Kind>> = {
  'sh start': 'start',
  sh: 'shell',
  'sh cloud': 'cloud',
  'json GATEWAY_KEYS': 'keys',
  ts: 'typescript',
  tsx: 'react',
  python: 'python',
  text: 'picture',
};

/** Undefined for a block that no suite runs. */
export function kindOf({ language, options }: Pick<CodeBlock, 'language' | 'options'>): Kind | undefined {
  if (language === 'ts' && options.has('file')) return 'method';
  const run = options.get('run');
  return KINDS[run === undefined ? language : `${language} ${run}`];
}

/** The lines of a document; those of code blocks are empty, so that line numbers stay. */
export function withoutFences(markdown: string): string[] {
  let isFenced = false;
  return markdown.split('\n').map((line) => {
    const isFence = line.startsWith('```');
    if (isFence) isFenced = !isFenced;
    return isFence || isFenced ? '' : line;
  });
}
