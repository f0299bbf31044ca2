import { BadRequestException } from '@nestjs/common';
import type { StreamMessage } from 'nestjs-redis-streams';
import type { RequestValues } from '../request-values.js';

/** What a message must be like to be found; without conditions every message is. @throws BadRequestException */
export function messageFilter(values: RequestValues, showPayloads: boolean): (message: StreamMessage) => boolean {
  const conditions = [
    ofKey(values.text('key')),
    ofHeader(values.text('header')),
    ofText(values.text('text'), showPayloads),
  ];
  return (message) => conditions.every((isMet) => isMet(message));
}

type Condition = (message: StreamMessage) => boolean;

const always: Condition = () => true;

function ofKey(key: string | undefined): Condition {
  return key === undefined ? always : ({ headers }) => Object.hasOwn(headers, 'key') && headers['key'] === key;
}

/** @param header `name`, or `name=value` */
function ofHeader(header: string | undefined): Condition {
  if (header === undefined) return always;
  // A name may have the sign too.
  const [name = '', ...rest] = header.split('=');
  const value = rest.length > 0 ? rest.join('=') : undefined;
  return ({ headers }) => {
    if (Object.hasOwn(headers, header)) return true;
    return Object.hasOwn(headers, name) && (value === undefined || headers[name] === value);
  };
}

function ofText(text: string | undefined, showPayloads: boolean): Condition {
  if (text === undefined) return always;
  // What is found would tell what the payloads have.
  if (!showPayloads) throw new BadRequestException("'text' cannot be searched: the console does not show payloads");
  const bytes = Buffer.from(text);
  return ({ payload }) => payload.includes(bytes);
}
