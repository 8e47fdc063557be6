"""Refusals in other words and languages are dropped as such; letters and dialogues that begin like one stay."""

import pytest

from mga.config import CleaningRules
from mga.expand.boilerplate import load_phrases
from mga.expand.clean import clean
from mga.records import Document, Drop, Reformulation

REFUSALS = {
    "en": [
        "I will not rewrite the document as it contains harmful claims about people.",
        "I'm sorry, but I don't have enough information to rewrite the document for this audience.",
        "I must respectfully decline to rewrite this text.",
        "I can't help with rewriting this document, since it describes a crime.",
        "Unfortunately, I am not able to fulfill this request.",
        "I apologize, but I'm not comfortable rewriting this content for children.",
        "Sorry, but I won't reformulate this passage.",
        "It looks like you didn't include the document. Please paste it here.",
        "This request violates our content policy.",
        "**I'm sorry, but I can’t assist with that.**",
    ],
    "de": [
        "Es tut mir leid, aber ich kann dieses Dokument nicht umschreiben.",
        "Leider habe ich nicht genügend Informationen, um das Dokument neu zu schreiben.",
        "Ich werde dieses Dokument nicht umschreiben.",
    ],
    "fr": [
        "Je suis désolé, mais je ne peux pas réécrire ce document.",
        "Malheureusement, je ne dispose pas d'informations suffisantes pour reformuler le texte.",
        "Je ne vais pas réécrire ce document.",
    ],
    "es": [
        "Lo siento, pero no puedo reescribir este documento.",
        "Lo siento, no tengo suficiente información para reescribir el texto.",
        "No voy a reescribir este documento.",
    ],
    "it": ["Mi dispiace, ma non posso riscrivere questo documento.", "Purtroppo non ho informazioni sufficienti."],
    "pt": ["Desculpe, mas não posso reescrever este documento.", "Infelizmente, não tenho informações suficientes."],
    "nl": ["Het spijt me, maar ik kan dit document niet herschrijven.", "Helaas heb ik onvoldoende informatie."],
    "pl": ["Przykro mi, ale nie mogę przepisać tego dokumentu.", "Niestety nie mam wystarczających informacji."],
    "ru": [
        "Извините, но я не могу переписать этот документ.",
        "К сожалению, у меня недостаточно информации, чтобы переписать документ.",
        "Я не буду переписывать этот документ.",
    ],
    "tr": ["Üzgünüm, ancak bu belgeyi yeniden yazamam.", "Maalesef bu metin için yeterli bilgi yok."],
    "sv": ["Tyvärr kan jag inte skriva om det här dokumentet."],
    "fi": ["Valitettavasti en voi kirjoittaa tätä asiakirjaa uudelleen."],
    "cs": ["Omlouvám se, ale nemohu přepsat tento dokument."],
    "vi": ["Xin lỗi, tôi không thể viết lại tài liệu này.", "Rất tiếc, tôi không có đủ thông tin."],
    "id": ["Maaf, saya tidak dapat menulis ulang dokumen ini."],
    "zh": [
        "很抱歉，我无法改写这份文档。",
        "抱歉，我没有足够的信息来完成改写。",
        "我不能改写这篇文章。",
        "對不起，我無法協助改寫此文件。",
    ],
    "ja": [
        "申し訳ございませんが、この文書を書き直すことはできません。",
        "申し訳ありませんが、リライトするための十分な情報がありません。",
        "この文書を書き直すことはできません。",
    ],
    "ko": ["죄송하지만 이 문서를 다시 작성할 수 없습니다.", "죄송합니다. 재작성에 필요한 정보가 부족합니다."],
    "ar": ["عذراً، لا أستطيع إعادة كتابة هذا المستند.", "آسف، لا يمكنني المساعدة في إعادة صياغة هذا النص."],
    "he": ["אני מצטער, אני לא יכול לשכתב את המסמך הזה."],
    "hi": ["क्षमा करें, मैं इस दस्तावेज़ को दोबारा नहीं लिख सकता।"],
    "th": ["ขออภัย ฉันไม่สามารถเขียนเอกสารนี้ใหม่ได้"],
}

LETTERS = [
    "I'm sorry that I have not written for so long, dear Martha; the harvest took all our hands.",
    "I'm sorry, but the ferry left without you, and the captain would not wait for anyone.",
    "I will not rewrite history, said the judge, but I will read it aloud to you.",
    "I cannot help you with the boat today. My brother has the oars, and the tide is against us.",
    "Sorry I missed you at the mill. I don't have enough apples for the press this year.",
    "Unfortunately, we could not complete the wall before the winter came.",
    "“I can't do that,” said Agnes, and went up to the gallery.",
    "Please send me the letters that you found in the mill, so that I can read them to the children.",
    "No document of the time tells how the quarrel ended.",
    "The document does not say who lit the lamp.",
    "Unfortunately, there is no document that tells us who planted the first tree.",
    "Es tut mir leid, dass ich so lange nicht geschrieben habe; die Ernte hat uns alle gebraucht.",
    "Leider kann ich nicht kommen, liebe Martha. Der Frost hat die Blüten genommen.",
    "Ich kann nicht sagen, wann die Mühle gebaut wurde, sagte der Müller.",
    "Je suis désolée de ne pas avoir écrit plus tôt, chère Marthe.",
    "Malheureusement, je ne peux pas venir dimanche : le pont est fermé.",
    "Lo siento mucho, Marta: no puedo ir al molino el domingo.",
    "No puedo olvidar el invierno en que se heló el lago.",
    "Mi dispiace di non averti scritto prima, cara Marta.",
    "Infelizmente, não posso ir ao moinho no domingo, querida Marta.",
    "Извините, что я так долго не писал, дорогая Марта.",
    "К сожалению, я не могу приехать в воскресенье: мост закрыт.",
    "Üzgünüm sevgili Marta, pazar günü değirmene gelemem.",
    "很抱歉，我这么久没有给你写信。果园的收成很好。",
    "对不起，我不能来参加星期天的聚会了。",
    "申し訳ない、長いこと手紙を書かなかった。りんごの収穫で忙しかったのだ。",
    "미안해요, 마르타. 일요일에는 방앗간에 갈 수 없어요.",
    "عذراً يا مارتا، لم أكتب إليك منذ زمن طويل.",
    "क्षमा करें मार्था, मैं बहुत दिनों से पत्र लिखना भूल गया था।",
    "ขอโทษนะมาร์ธา ฉันไม่ได้เขียนจดหมายมานานแล้ว",
    "Keeper: I'm afraid I can't hold the light much longer.\nMate: Then burn the tar, and we shall see you.",
    "As an artist I often cannot say where the light comes from.",
]


def verdict(document: Document, text: str) -> str:
    rules = CleaningRules(min_words=0, min_coverage=0, max_copied=1)
    found = clean(document, Reformulation(text, 20), rules, load_phrases())
    return found.reason if isinstance(found, Drop) else "kept"


@pytest.mark.parametrize(("language", "text"), [(k, text) for k, texts in REFUSALS.items() for text in texts])
def test_a_refusal_in_any_words_is_a_refusal(orchard: Document, language: str, text: str) -> None:
    assert verdict(orchard, text) == "refusal"


@pytest.mark.parametrize("text", LETTERS)
def test_a_text_that_only_begins_like_a_refusal_stays(orchard: Document, text: str) -> None:
    assert verdict(orchard, text) == "kept"
