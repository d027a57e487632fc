// The fenced code blocks of a Markdown text, with what a comment in front of one says about running it: `<!-- run: cloud -->`. GitHub shows
// no comments. Refuses fences that a reader would see otherwise than this.

export interface CodeBlock {
  /** What follows the opening fence; empty when nothing does. */
  readonly language: string;
  readonly text: string;
  /** The heading above it. */
  readonly heading: string;
  /** Of the opening fence, from 1. */
  readonly line: number;
  /** By name: `run`, `file`, `needs`. */
  readonly told: ReadonlyMap<string, string>;
}

/** Throws for a fence that is not closed, is indented, or is made of tildes. */
export function readCodeBlocks(markdown: string): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let open: { language: string; line: number; told: Map<string, string>; lines: string[] } | undefined;
  let heading = '';
  let told = new Map<string, string>();
  for (const [index, line] of markdown.split('\n').entries()) {
    if (open !== undefined) {
      if (line !== '```') {
        open.lines.push(line);
        continue;
      }
      const { lines, ...block } = open;
      blocks.push({ ...block, heading, text: `${lines.join('\n')}\n` });
      open = undefined;
      told = new Map();
      continue;
    }
    if (/^\s+```|^\s*~~~/.test(line))
      throw new Error(`line ${index + 1}: a fence starts a line and is made of backticks`);
    const fence = /^```(\S*)$/.exec(line);
    const comment = /^<!-- (\w+): (\S+) -->$/.exec(line);
    if (fence === null && line.startsWith('```')) throw new Error(`line ${index + 1}: a fence says its language only`);
    if (fence !== null) open = { language: fence[1] ?? '', line: index + 1, told, lines: [] };
    else if (comment !== null) told.set(comment[1] ?? '', comment[2] ?? '');
    else told = new Map();
    heading = /^#+ (.+)$/.exec(line)?.[1] ?? heading;
  }
  if (open !== undefined) throw new Error(`line ${open.line}: the fence is not closed`);
  return blocks;
}

/** How each kind of block is made to show that it works; see the suites named after it. */
export type Kind = 'start' | 'shell' | 'cloud' | 'keys' | 'method' | 'typescript' | 'python' | 'picture';

const KINDS: Readonly<Record<string, Kind>> = {
  'sh start': 'start',
  sh: 'shell',
  'sh cloud': 'cloud',
  'json GATEWAY_KEYS': 'keys',
  ts: 'typescript',
  python: 'python',
  text: 'picture',
};

/** Undefined for a block that nobody knows how to run. */
export function kindOf({ language, told }: Pick<CodeBlock, 'language' | 'told'>): Kind | undefined {
  if (language === 'ts' && told.has('file')) return 'method';
  const run = told.get('run');
  return KINDS[run === undefined ? language : `${language} ${run}`];
}
