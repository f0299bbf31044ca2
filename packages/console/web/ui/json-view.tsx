import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { Json } from '../data/json.js';
import { countOf } from '../data/figures.js';

/** Values of one object or array that are drawn at first, and more each time. */
const SHOWN = 100;
/** Objects below this depth are closed at first. */
const OPEN_DEPTH = 3;

interface NodeProps {
  readonly name?: string;
  readonly value: Json;
  readonly depth: number;
}

export function JsonView({ value }: { value: Json }): JSX.Element {
  return (
    <div class="json">
      <Node value={value} depth={0} />
    </div>
  );
}

function Node(props: NodeProps): JSX.Element {
  const { name, value } = props;
  if (value.kind === 'object' || value.kind === 'array') return <Branch {...props} value={value} />;
  return (
    <div class="leaf">
      <Name name={name} />
      <span class={value.kind}>{value.kind === 'string' ? JSON.stringify(value.text) : value.text}</span>
    </div>
  );
}

function Name({ name }: { name: string | undefined }): JSX.Element | null {
  return name === undefined ? null : (
    <>
      <span class="name">{name}</span>
      <span class="mark">: </span>
    </>
  );
}

type BranchJson = Extract<Json, { kind: 'object' | 'array' }>;

function Branch({ name, value, depth }: NodeProps & { value: BranchJson }): JSX.Element {
  const children =
    value.kind === 'object' ? value.members : value.items.map((item, index) => [`${index}`, item] as const);
  const [isOpen, setOpen] = useState(depth < OPEN_DEPTH && children.length <= SHOWN);
  const [shown, setShown] = useState(SHOWN);
  const [first, last] = value.kind === 'object' ? '{}' : '[]';
  if (children.length === 0) {
    return (
      <div class="leaf">
        <Name name={name} />
        <span class="mark">
          {first}
          {last}
        </span>
      </div>
    );
  }
  return (
    <details open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <Name name={name} />
        <span class="mark">{first}</span>
        <span class="size">{countOf(children.length, value.kind === 'object' ? 'member' : 'item')}</span>
      </summary>
      {isOpen && (
        <div class="children">
          {children.slice(0, shown).map(([key, child], index) => (
            <Node key={index} name={key} value={child} depth={depth + 1} />
          ))}
          {children.length > shown && (
            <button type="button" class="link" onClick={() => setShown(shown + SHOWN)}>
              {countOf(children.length - shown, 'more value')}
            </button>
          )}
        </div>
      )}
      <span class="mark">{last}</span>
    </details>
  );
}
