import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A self-signed certificate for 127.0.0.1, in files that a server can load. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  /** The certificate as text, by which a client trusts it. */
  readonly ca: string;
  /** Removes the files. */
  remove(): void;
}

const REQUEST = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1';

/** @throws Error when the openssl program is missing or fails: a test of TLS must not be skipped in silence. */
export function makeCertificate(): Certificate {
  const dir = mkdtempSync(join(tmpdir(), 'tls-certificate-'));
  const [certFile, keyFile] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
  const files = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', keyFile, '-out', certFile];
  try {
    execFileSync('openssl', [...REQUEST.split(' '), ...files], { stdio: 'pipe' });
  } catch (error) {
    rmSync(dir, { recursive: true, force: true });
    throw new Error('The tests of TLS make a certificate with the openssl program, which is missing or failed', {
      cause: error,
    });
  }
  const remove = (): void => rmSync(dir, { recursive: true, force: true });
  return { certFile, keyFile, ca: readFileSync(certFile, 'utf8'), remove };
}
