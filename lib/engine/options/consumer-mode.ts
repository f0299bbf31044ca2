/**
 * Who gets a message: every consumer (`real-time`), the only consumer of its group, which continues where it stopped
 * (`resumable`), or one of the consumers of the group (`load-balanced`).
 */
export type ConsumerMode = 'real-time' | 'resumable' | 'load-balanced';
