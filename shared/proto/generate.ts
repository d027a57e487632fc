// `npm run proto [outdir]`: writes gateway_pb.ts from gateway.proto with buf and protoc-gen-es, both from npm. A test
// checks that the committed file is what this makes.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const here = import.meta.dirname;
const bin = join(here, '../../test/node_modules/.bin');
const template = {
  version: 'v2',
  plugins: [
    {
      local: join(bin, 'protoc-gen-es'),
      out: process.argv[2] ?? here,
      opt: ['target=ts', 'import_extension=ts', 'erasable_syntax=true'],
    },
  ],
  inputs: [{ directory: here }],
};
const { status } = spawnSync(join(bin, 'buf'), ['generate', '--template', JSON.stringify(template)], {
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
