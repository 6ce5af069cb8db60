"""Refusals in the languages that readers' documents may be in: an apology at the beginning and "I cannot" behind it.

Both are wanted, since a passage may begin with either. ``corpus.filters.is_refusal`` knows English ones that need no
apology.
"""

from __future__ import annotations

import unicodedata

WITHIN = 160  # characters from the beginning
# One language a line: how it is said to be sorry | how to be unable, each with its variants, in small letters.
_SAID = """
sorry, i'm sorry, i am sorry, i apologi, unfortunately | can't, cannot, can not, unable, not able
lo siento, lamento, disculp, perdón, perdona | no puedo, no podemos, no me es posible
desculp, sinto muito, lamento, peço desculpa | não posso, não consigo, não é possível
je suis désolé, désolé, je regrette, excusez-moi | je ne peux pas, je ne suis pas en mesure, je ne puis
es tut mir leid, tut mir leid, entschuldigung, leider | kann ich, ich kann, nicht helfen
mi dispiace, mi scuso, spiacente | non posso, non sono in grado
het spijt me, sorry, helaas | kan ik, ik kan
em sap greu, ho sento | no puc
przepraszam, przykro mi, niestety | nie mogę, nie jestem w stanie
omlouvám se, je mi líto, promiňte, bohužel | nemohu, nemůžu, nedokážu
prepáčte, ospravedlňujem, je mi ľúto, žiaľ | nemôžem, nedokážem
sajnálom, elnézést, sajnos | nem tudok, nem segíthetek, nem áll módomban
îmi pare rău, ne pare rău, scuze | nu pot
žao mi je, oprostite, žal mi je, žal, nažalost | ne mogu, ne morem
žao mi je, жао ми је, извините, нажалост | не могу
извините, простите, к сожалению, прошу прощения, мне жаль, сожалею | не могу, не смогу, не в состоянии
вибачте, перепрошую, на жаль, мені шкода | не можу, не зможу
прабачце, на жаль | не магу
съжалявам, извинете, за съжаление | не мога
кешіріңіз, өкінішке | алмаймын
uzr, kechirasiz, afsuski | olmayman
üzgünüm, özür dilerim, maalesef, kusura bakmayın | yapamam, olamam, olamıyorum, yapamıyorum, edemem, mümkün değil
üzr istəyirəm, təəssüf | edə bilmərəm, bilmirəm
συγγνώμη, λυπάμαι, ζητώ συγγνώμη, δυστυχώς | δεν μπορώ, δεν είμαι σε θέση, αδυνατώ
סליחה, אני מצטער, מצטער, אני מתנצל, לצערי | לא יכול, איני יכול, אינני יכול, לא אוכל, לא ניתן
عذرا, عذراً, آسف, أنا آسف, أعتذر, للأسف, يؤسفني, المعذرة | لا أستطيع, لا يمكنني, لا أقدر
متأسفم, متاسفم, ببخشید, متأسفانه, متاسفانه, عذرخواهی | نمی‌توانم, نمی توانم, نمیتوانم
معذرت, معاف کیجیے, مجھے افسوس | نہیں کر سک, مدد نہیں, نہیں دے سک
क्षमा, माफ़, माफ, मुझे खेद, खेद है | नहीं कर सक, मदद नहीं, नहीं दे सक, असमर्थ, नहीं लिख सक
क्षमस्व, माफ करा, माफ गर्नुहोस्, मलाई माफ | करू शकत नाही, शकत नाही, सक्दिन
দুঃখিত, আমি দুঃখিত, ক্ষমা, মাফ | পারি না, পারছি না, পারব না, সম্ভব নয়
ਮਾਫ਼, ਮਾਫ, ਮੈਨੂੰ ਅਫ਼ਸੋਸ | ਨਹੀਂ ਕਰ ਸਕ, ਮਦਦ ਨਹੀਂ
માફ, ક્ષમા, મને ખેદ | શકતો નથી, શકતી નથી, શકું નહીં
மன்னிக்க | முடியாது, முடியவில்லை, இயலாது
క్షమించ | లేను, చేయలేను
ಕ್ಷಮಿಸ | ಸಾಧ್ಯವಿಲ್ಲ, ಆಗುವುದಿಲ್ಲ
ക്ഷമിക്ക | കഴിയില്ല, സാധിക്കില്ല
සමාවන්න | නොහැක, බැහැ
ขออภัย, ขอโทษ, เสียใจ | ไม่สามารถ, ไม่ได้
ຂໍອະໄພ, ຂໍໂທດ | ບໍ່ສາມາດ
សូមអភ័យទោស, សុំទោស, សូមទោស | មិនអាច
တောင်းပန်, စိတ်မကောင်း | မရပါ, မနိုင်, မပေးနိုင်
xin lỗi, rất tiếc, tôi xin lỗi | không thể
maaf, mohon maaf, saya minta maaf | tidak bisa, tidak dapat, tidak boleh
paumanhin, pasensya, ikinalulungkot | hindi ko, hindi ako
samahani, pole, naomba radhi, nasikitika | siwezi, sitaweza, haiwezekani
ይቅርታ, አዝናለሁ | አልችልም
죄송, 미안, 유감 | 없습니다, 없어요, 없다, 못합니다, 어렵습니다
申し訳, すみません, ごめん, 恐れ入り | できません, できかね, いたしかね, できない
抱歉, 很抱歉, 非常抱歉, 对不起, 對不起, 不好意思 | 无法, 不能, 無法, 没办法, 沒辦法
jag är ledsen, tyvärr, förlåt, jag beklagar | kan inte, kan jag inte
jeg beklager, beklager, desværre, undskyld, dessverre | kan ikke, kan jeg ikke
mér þykir leitt, því miður, fyrirgefðu | get ekki, get ég ekki
olen pahoillani, pahoittelen, valitettavasti, anteeksi | en voi, en pysty
vabandust, vabandan, kahjuks | ei saa, ma ei
atvainojiet, diemžēl, piedodiet | nevaru
atsiprašau, deja, apgailestauju | negaliu
tá brón orm, mae'n ddrwg | ní féidir, ni allaf
barkatu, sentitzen dut | ezin dut, ezin dizut
më vjen keq, na vjen keq | nuk mund
ბოდიში, სამწუხაროდ, ვწუხვარ | არ შემიძლია, ვერ
ներողություն, ցավում եմ, ցավոք | չեմ կարող
уучлаарай | чадахгүй, боломжгүй
jammer, ek is jammer, verskoon | ek kan nie, kan ek nie
""".strip().splitlines()


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().replace("\u2019", "'")


_PAIRS = [
    tuple(tuple(said.strip() for said in side.split(",")) for side in line.split("|"))
    for line in map(_plain, _SAID)
]


def is_refusal(text: str) -> bool:
    """Whether a text begins as assistants refuse, in any of about sixty languages."""
    start = _plain(text).lstrip(" \t\n\"'“„«»¿¡「『(")[:WITHIN]
    return any(start.startswith(sorry) and any(no in start for no in unable) for sorry, unable in _PAIRS)
