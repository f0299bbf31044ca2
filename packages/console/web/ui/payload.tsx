import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';

import type { Payload } from '../../src/api.js';
import { formatBytes } from '../data/figures.js';
import { parseJson } from '../data/json.js';
import { CopyButton } from './copy.js';
import { Icon } from './icon.js';
import { JsonView } from './json-view.js';

/** In one line of a list. */
export function PayloadPreview({ payload }: { payload: Payload }): JSX.Element {
  if (payload.text === null) return <span class="faint">hidden</span>;
  if (payload.bytes === 0) return <span class="faint">empty</span>;
  if (payload.isBinary) return <span class="preview">{hexOf(payload.text, 24)}…</span>;
  return <span class="preview">{payload.text.slice(0, 200)}</span>;
}

type Way = 'json' | 'raw' | 'hex';
const WAYS: Readonly<Record<Way, string>> = { json: 'JSON', raw: 'Raw', hex: 'Hex' };

export function PayloadView({ payload }: { payload: Payload }): JSX.Element {
  const { text, bytes, isBinary, isCut } = payload;
  const json = useMemo(() => (text === null || isBinary || isCut ? null : parseJson(text)), [text, isBinary, isCut]);
  const ways: Way[] = isBinary ? ['hex'] : json ? ['json', 'raw'] : ['raw'];
  const [chosen, choose] = useState<Way>();
  const way = chosen && ways.includes(chosen) ? chosen : ways[0];
  return (
    <section class="panel payload" aria-labelledby="payload-title">
      <header>
        <h2 id="payload-title">Payload</h2>
        <span class="faint">{formatBytes(bytes)}</span>
        {text !== null && ways.length > 1 && (
          <div class="segments" role="group" aria-label="How the payload is shown">
            {ways.map((each) => (
              <button key={each} type="button" aria-pressed={each === way} onClick={() => choose(each)}>
                {WAYS[each]}
              </button>
            ))}
          </div>
        )}
        {text !== null && <CopyButton text={text} of={isBinary ? 'the payload as base64' : 'the payload'} />}
      </header>
      <PayloadBody payload={payload} json={json} way={way ?? 'raw'} />
      {isCut && <p class="note">Only the beginning is shown: the payload is larger than the console loads.</p>}
    </section>
  );
}

interface BodyProps {
  readonly payload: Payload;
  readonly json: ReturnType<typeof parseJson>;
  readonly way: Way;
}

function PayloadBody({ payload, json, way }: BodyProps): JSX.Element {
  if (payload.text === null) {
    return (
      <p class="note">
        <Icon name="lock" /> Payloads are hidden. The option <code>showPayloads: true</code> of the console shows them.
      </p>
    );
  }
  if (payload.bytes === 0) return <p class="note">The payload is empty.</p>;
  if (way === 'json' && json) return <JsonView value={json} />;
  return (
    <pre class="raw" tabIndex={0} role="region" aria-label={way === 'hex' ? 'Payload as bytes' : 'Payload as text'}>
      {way === 'hex' ? hexLines(payload.text) : payload.text}
    </pre>
  );
}

const HEX_BYTES = 16;
const HEX_SHOWN = 16_384;

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function hexOf(base64: string, count: number): string {
  const start = base64.slice(0, Math.ceil(count / 3) * 4);
  return [...bytesOf(start)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

/** `00000010  7b 22 69 64 …  {"id…` */
function hexLines(base64: string): string {
  const bytes = bytesOf(base64).subarray(0, HEX_SHOWN);
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += HEX_BYTES) {
    const row = [...bytes.subarray(at, at + HEX_BYTES)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(HEX_BYTES * 3)} ${text}`);
  }
  return lines.join('\n');
}

export function HeadersPanel({ headers }: { headers: Readonly<Record<string, string>> }): JSX.Element {
  const names = Object.keys(headers).sort();
  return (
    <section class="panel" aria-labelledby="headers-title">
      <header>
        <h2 id="headers-title">Headers</h2>
        <span class="faint">{names.length}</span>
      </header>
      {names.length === 0 ? (
        <p class="note">The message has no headers.</p>
      ) : (
        <dl class="headers">
          {names.map((name) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{headers[name]}</dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  );
}
