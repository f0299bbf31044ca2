/** Where the bundled pages are. */
export declare const WEB_FOLDER: string;
/** The version of this package. */
export declare const VERSION: string;
