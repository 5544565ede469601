import { text } from "./text.js";

const said = (words) => fetch("/said?" + words);
said(`loaded-${text}`);
import.meta.hot.accept("./text.js", (changed) => said(`replaced-${changed.text}`));
