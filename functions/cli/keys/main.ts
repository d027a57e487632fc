// `npm run gateway -- keys`: the keys of a deployment, in Secret Manager. It needs the rights of a person who may add
// and disable versions of the secret (Secret Manager Admin), by application default credentials. It is not part of the
// npm package, which contains no Google SDK.
import { KeyEditError } from '../../../shared/auth/keys/edit-secret.ts';
import { connectSecret } from '../../../shared/auth/keys/secret-versions.ts';
import { trimEnvironment } from '../../../shared/config/environment.ts';
import { EXIT } from '../exit-codes.ts';
import { printable } from '../output.ts';
import { KeysUsageError, runKeys, USAGE } from './run-keys.ts';

try {
  await runKeys(process.argv.slice(3), {
    env: trimEnvironment(process.env),
    connect: (secret) => connectSecret(secret, undefined),
    out: (text) => process.stdout.write(text),
    note: (text) => process.stderr.write(text),
  });
} catch (error) {
  process.exitCode =
    error instanceof KeysUsageError ? EXIT.usage : error instanceof KeyEditError ? EXIT.refused : EXIT.unavailable;
  const message = (error instanceof Error ? error.message : String(error)).replace(
    /^Could not load the default credentials\b.*/,
    'there are no credentials of Google Cloud: run gcloud auth application-default login',
  );
  process.stderr.write(`${printable(`keys: ${message}`)}\n${error instanceof KeysUsageError ? `\n${USAGE}` : ''}`);
}
