// The blocks of the documents that need a cloud project run in bash, with substitutes for gcloud, terraform, npm, curl,
// git and scripts, which record their calls. What the blocks name must exist, and what they compute must be right. The
// flags of gcloud are not checked.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { Variables } from '../../../shared/config/variables.ts';
import { toLimitRef } from '../../../shared/rate-limit/windows/limit-document.ts';
import { type CodeBlock, kindOf, readCodeBlocks } from '../../support/documents/code-blocks.ts';
import { DOCUMENTS, readDocument } from '../../support/documents/documents.ts';
import { type CloudCall, runCloud } from '../../support/documents/run-block.ts';
import { ROOT } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const blocks = DOCUMENTS.flatMap((path) => readCodeBlocks(readDocument(path))).filter(
  (block) => kindOf(block) === 'cloud',
);
const scripts = Object.keys(
  z.object({ scripts: z.record(z.string(), z.string()) }).parse(JSON.parse(read('package.json'))).scripts,
);

const pulled = [
  {
    ackId: 'ack-1',
    message: {
      data: 'e30=',
      orderingKey: 'wrapper',
      messageId: '1',
      attributes: { 'ce-id': 'evt_1', event: 'a.b', CloudPubSubDeadLetterSourceSubscription: 'deployments' },
    },
  },
  { ackId: 'ack-2', message: { data: 'e30=', messageId: '2', attributes: { 'ce-id': 'evt_2' } } },
];

/** Google's APIs, the gateway, and a local gateway that reads a restored database. */
const CALLED = /https:\/\/(\w+\.)+(googleapis|example)\.com\/|http:\/\/127\.0\.0\.1:8080\//;
const TERRAFORM_COMMANDS = ['init', 'plan', 'apply', 'output', 'destroy', 'providers', 'state', 'import'];

function runBlock(containing: string): CloudCall[] {
  const found = blocks.filter(({ text }) => text.includes(containing));
  expect(found).toHaveLength(1);
  return found.flatMap(({ text }) => runCloud(text, { pulled }));
}

const named = (list: readonly CodeBlock[]) =>
  list.map((block) => [`${block.heading}, line ${block.line}`, block] as const);

describeWith('shell', 'cloud blocks', () => {
  it.each(named(blocks))(
    'a cloud block runs to its end, and Terraform and npm know what it names: %s',
    (_name, { text }) => {
      const calls = runCloud(text, { pulled });
      expect(calls.length).toBeGreaterThan(0);
      for (const { program, args } of calls) {
        if (program === 'terraform') expectTerraform(args);
        if (program === 'npm' && args[0] === 'run')
          expect(scripts).toContain(args.slice(1).find((arg) => arg !== '-s'));
        if (program === 'curl') expect(args.join(' ')).toMatch(CALLED);
        if (program === 'bash') expect(existsSync(join(ROOT, args[0] ?? ''))).toBe(true);
      }
    },
  );

  it('the block that revokes a key writes the document that the limiter reads', () => {
    const [token, patch] = runBlock('data.revoked');
    expect(token?.args).toEqual(['auth', 'print-access-token']);
    expect(patch?.args.find((arg) => arg.startsWith('https://'))).toContain(
      `/documents/limits/${toLimitRef('KEY_ID').id}?`,
    );
    const body = patch?.args.at((patch?.args.indexOf('-d') ?? 0) + 1) ?? '';
    expect(JSON.parse(body)).toEqual({
      fields: { data: { mapValue: { fields: { revoked: { booleanValue: true } } } } },
    });
  });

  it('the block that replays dead letters publishes what was pulled, without their marks, and then acknowledges it', () => {
    const calls = runBlock('subscriptions pull').map(({ args, stdin }) => ({ args: args.join(' '), stdin }));
    const [published, acknowledged] = calls.filter(({ args }) => /:publish|subscriptions ack/.test(args));
    expect(JSON.parse(published?.stdin ?? '')).toEqual({
      messages: [
        { data: 'e30=', orderingKey: 'wrapper', attributes: { 'ce-id': 'evt_1', event: 'a.b' } },
        { data: 'e30=', orderingKey: null, attributes: { 'ce-id': 'evt_2' } },
      ],
    });
    expect(acknowledged?.args).toContain('--ack-ids=ack-1,ack-2');
  });
});

/** Its directory, variables and outputs are there. */
function expectTerraform(args: readonly string[]): void {
  const [directory, command] = args;
  expect(directory).toBe('-chdir=terraform');
  expect(TERRAFORM_COMMANDS).toContain(command);
  if (command === 'output') expect(read('terraform/outputs.tf')).toContain(`output "${args.at(-1)}"`);
  for (const [index, arg] of args.entries()) {
    if (arg === '-var')
      expect(read('terraform/variables.tf')).toContain(`variable "${args[index + 1]?.split('=')[0]}"`);
  }
}

it.each(DOCUMENTS)('every npm script and every file that a document names exists: %s', (document) => {
  const text = readDocument(document);
  const named = [...text.matchAll(/\bnpm run (?:-s )?([\w:]+)/g)].map(([, name]) => name ?? '');
  expect(named.filter((name) => !scripts.includes(name))).toEqual([]);
  const paths = [...text.matchAll(/(?<![\w/.])(?:shared|functions|terraform|test)\/[\w./-]*\w/g)].map(([path]) => path);
  // Readers create these when they follow the documents.
  const made = new Set(['shared/methods/hello.world.ts', 'terraform/.terraform.lock.hcl', 'test/screenshots']);
  expect(paths.filter((path) => !made.has(path) && !existsSync(join(ROOT, path)))).toEqual([]);
});

it('every variable that the configuration reads is in shared/README.md, and no other', () => {
  const text = readDocument('shared/README.md');
  const known = Object.keys(Variables.shape);
  const section = text.slice(text.indexOf('## Configuration'), text.indexOf('## Data model'));
  const cells = [...section.matchAll(/^\| (`.*?) \|/gm)].map(([, cell]) => cell).join();
  expect(known.length).toBeGreaterThan(30);
  expect(names(cells, /`([A-Z_]+)`/g)).toEqual(known.toSorted());
});

function names(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, name]) => name ?? '').toSorted();
}
